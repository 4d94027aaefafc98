"""One module for each protocol: its requests, its answers, its form of errors."""
