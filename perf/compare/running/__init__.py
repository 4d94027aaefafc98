"""The systems' own environments and processes, and the sessions in which they are measured."""
