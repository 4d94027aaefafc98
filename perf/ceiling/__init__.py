"""`python -m perf ceiling`: beside the network alone, without a server."""
