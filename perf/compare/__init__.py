"""`python -m perf compare`: beside other ways to serve the same checkpoint."""
