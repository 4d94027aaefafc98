"""The page: what is served, a place to try it, and what goes through."""
