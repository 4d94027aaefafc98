"""Several servers behind one transport."""
