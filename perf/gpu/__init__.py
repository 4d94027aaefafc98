"""`python -m perf gpu`: what a machine with a GPU makes of every network."""
