"""What both clients are made with, and its defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ._connection import Connection, FilePath, make_connection
from ._errors import InvalidArgument, InvalidType
from ._options import seconds
from ._retry import Deadline

DEFAULT_URL = "localhost:8001"
DEFAULT_MODEL = "bert"
DEFAULT_TIMEOUT = 60.0  # seconds
DEFAULT_BATCH_SIZE = 64  # texts


def default_url() -> str:
    """CLIENT_SDK_URL, or Triton's gRPC port on this machine."""
    return os.environ.get("CLIENT_SDK_URL") or DEFAULT_URL


def default_model() -> str:
    """CLIENT_SDK_MODEL, or "bert"."""
    return os.environ.get("CLIENT_SDK_MODEL") or DEFAULT_MODEL


@dataclass(frozen=True)
class Settings:
    """A client's arguments, checked."""

    connection: Connection
    model: str
    timeout: float

    def deadline(self, timeout: float | None) -> Deadline:
        """The end of a call that starts now; None means the client's own timeout."""
        return Deadline(self.timeout if timeout is None else seconds("timeout", timeout))


def make_settings(
    url: str | None,
    model: str | None,
    timeout: float,
    headers: Mapping[str, str] | None,
    root_certificates: FilePath | None,
    client_certificate: FilePath | None,
    client_key: FilePath | None,
) -> Settings:
    """Check a client's arguments; None for url and model means the environment's, or the default."""
    model = default_model() if model is None else model
    if not isinstance(model, str):
        raise InvalidType(f"model must be a str, not {type(model).__name__}")
    if not model:
        raise InvalidArgument("model is empty; the default family is called 'bert'")
    connection = make_connection(
        default_url() if url is None else url, headers, root_certificates, client_certificate, client_key
    )
    return Settings(connection, model, seconds("timeout", timeout))
