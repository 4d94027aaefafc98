"""What is wrong with a request."""

from typing import Any


class Refused(Exception):
    """What is wrong with a request, for the one who sent it; `code` names one of Triton's error codes."""

    def __init__(self, message: str, code: str = "INVALID_ARG") -> None:
        super().__init__(message)
        self.code = code


def shown(value: Any) -> str:
    """A parameter's value in an error, which need not be as long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
