"""`python -m perf cache`: texts that come again."""
