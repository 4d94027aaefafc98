"""What is written: the models of a family, and their place in a model repository."""
