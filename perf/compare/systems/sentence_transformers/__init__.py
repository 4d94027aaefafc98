"""sentence-transformers in one's own process."""
