"""The model repository that a server is started on, as Triton would read it."""
