"""`python -m perf scale`: one call of many texts, many connections, many families."""
