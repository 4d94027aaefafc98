"""The original bert-as-service."""
