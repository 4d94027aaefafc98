"""The systems, each with how it is installed, started and asked."""
