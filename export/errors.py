"""The error that ends an export."""


class ExportError(Exception):
    """An export cannot be done; the message is one line that says why and what to do."""
