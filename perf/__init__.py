"""Measurements of the server and what it is compared with."""
