"""`python -m perf memory`: the memory of each process over time."""
