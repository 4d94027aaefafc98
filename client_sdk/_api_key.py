"""The key of a restricted server: checked, and as the headers that Triton compares.

Triton knows no keys of its own, only "this header must have this value" (`--http-restricted-api` and
`--grpc-restricted-protocol`, both of which are given `authorization=Bearer KEY`). Over gRPC it puts a prefix before
the header's name.
"""

from __future__ import annotations

import re

from client_sdk._errors import InvalidArgument, InvalidType

HTTP_HEADER = "authorization"
GRPC_HEADER = "triton-grpc-protocol-authorization"

_KEY = re.compile(r"[!-~]+")


def checked_api_key(key: str) -> str:
    """`key` itself, if a header can carry it; the error does not show it."""
    if not isinstance(key, str):
        raise InvalidType(f"api_key must be a str, not {type(key).__name__}")
    if not _KEY.fullmatch(key):
        reason = "has a character that is not printable ASCII, or a space" if key else "is empty"
        raise InvalidArgument(f"the api_key {reason}: it must be one word of printable ASCII")
    return key


def bearer(key: str) -> str:
    """The value of the header."""
    return f"Bearer {key}"


def key_header(key: str, *, uses_grpc: bool) -> dict[str, str]:
    """The header that shows `key` to a server."""
    return {GRPC_HEADER if uses_grpc else HTTP_HEADER: bearer(key)}
