"""The key of a restricted server: checked, and as the headers that Triton compares.

Triton knows no keys of its own, only "this header must have this value" (`--http-restricted-api` and
`--grpc-restricted-protocol`, both of which are given `authorization=Bearer KEY`). Over gRPC it puts a prefix before
the header's name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

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


def read_api_key(path: str | os.PathLike[str]) -> str:
    """The key in a file: its one line, without the space around it.

    Raises:
        InvalidArgument: it holds something else, which is not shown.
        OSError: it cannot be read.
    """
    file = f"the key file {str(path)!r}"
    try:
        lines = Path(path).read_text("utf-8").strip().splitlines()
    except UnicodeDecodeError:
        raise InvalidArgument(f"{file} is not text: it must hold the key, one word of printable ASCII") from None
    if len(lines) != 1:
        found = f"has {len(lines)} lines" if lines else "is empty"
        raise InvalidArgument(f"{file} {found}: it must hold the key, in one line")
    try:
        return checked_api_key(lines[0])
    except InvalidArgument as error:
        raise InvalidArgument(f"{file}: {error}") from None


def bearer(key: str) -> str:
    """The value of the header."""
    return f"Bearer {key}"


def key_header(key: str, *, uses_grpc: bool) -> dict[str, str]:
    """The header that shows `key` to a server."""
    return {GRPC_HEADER if uses_grpc else HTTP_HEADER: bearer(key)}
