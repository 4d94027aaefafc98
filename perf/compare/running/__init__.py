"""The sessions in which systems are measured, each in a process of its own environment."""
