"""What smaller vectors cost in a search."""
