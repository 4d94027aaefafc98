"""`python -m perf soak`: everything at once, for a long time."""
