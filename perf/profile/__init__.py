"""`python -m perf profile`: where the time of a request goes."""
