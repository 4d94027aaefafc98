"""`python -m perf corpus`: the job of `corpus` beside `Client.encode`."""
