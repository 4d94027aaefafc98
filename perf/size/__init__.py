"""`python -m perf size`: throughput by length, and what mixing lengths costs."""
