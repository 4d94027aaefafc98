"""The network's products in 8 bits."""
