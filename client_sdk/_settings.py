"""What both clients are made with, and its defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from client_sdk._checks import seconds, sendable
from client_sdk._errors import InvalidArgument, InvalidType
from client_sdk._transport.address import Url
from client_sdk._transport.connection import Connection, ConnectionOptions, FilePath, make_connections
from client_sdk._transport.retry import Deadline
from client_sdk._typing import Unpack

DEFAULT_URL = "localhost:8001"
DEFAULT_MODEL = "bert"
DEFAULT_TIMEOUT = 60.0  # seconds without an answer, and what `Deadline` adds for texts that are long


def default_url() -> str:
    """CLIENT_SDK_URL, one address or several with commas between them; or Triton's gRPC port on this machine."""
    return os.environ.get("CLIENT_SDK_URL") or DEFAULT_URL


def has_default_url() -> bool:
    """Whether CLIENT_SDK_URL names one."""
    return bool(os.environ.get("CLIENT_SDK_URL"))


def default_model() -> str:
    """CLIENT_SDK_MODEL, or "bert"."""
    return os.environ.get("CLIENT_SDK_MODEL") or DEFAULT_MODEL


def default_api_key() -> str | None:
    """CLIENT_SDK_API_KEY, or none."""
    return os.environ.get("CLIENT_SDK_API_KEY") or None


@dataclass(frozen=True)
class Settings:
    """A client's arguments, checked."""

    connections: tuple[Connection, ...]  # one for each address
    model: str
    timeout: float | None  # for the whole of a call; None: for as long as answers come

    @property
    def url(self) -> str:
        """The addresses, with commas between them."""
        return ",".join(str(connection.address) for connection in self.connections)

    def deadline(self, timeout: float | None) -> Deadline:
        """The end of a call that starts now; None means the client's own timeout."""
        whole = self.timeout if timeout is None else seconds("timeout", timeout)
        return Deadline(DEFAULT_TIMEOUT, renewable=True) if whole is None else Deadline(whole)


class ConnectingOptions(TypedDict, total=False):
    """How servers are reached."""

    headers: Mapping[str, str] | None
    api_key: str | None
    root_certificates: FilePath | None
    client_certificate: FilePath | None
    client_key: FilePath | None


class ClientOptions(ConnectingOptions, total=False):
    """What a client is made with, beside url and model."""

    timeout: float | None


def make_settings(
    url: Url | None, model: str | None, timeout: float | None = None, **connection: Unpack[ConnectingOptions]
) -> Settings:
    """Check a client's arguments; None for url, model and api_key means the environment's, or the default."""
    model = default_model() if model is None else model
    if not isinstance(model, str):
        raise InvalidType(f"model must be a str, not {type(model).__name__}")
    if not model:
        raise InvalidArgument("model is empty; the default family is called 'bert'")
    model = sendable("model", model)
    options = ConnectionOptions(**connection)
    if options.api_key is None:
        options = replace(options, api_key=default_api_key())
    connections = make_connections(default_url() if url is None else url, options)
    return Settings(connections, model, None if timeout is None else seconds("timeout", timeout))
