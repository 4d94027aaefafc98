"""A tritonserver on this machine: started, watched, stopped."""
