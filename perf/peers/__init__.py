"""This project, the ceiling, and the systems that they are compared with: a module each."""
