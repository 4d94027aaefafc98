"""Over gRPC."""
