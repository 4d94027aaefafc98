"""What a gateway is made with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from client_sdk._checks import positive_int, seconds
from client_sdk._errors import InvalidArgument
from client_sdk._settings import DEFAULT_MODEL, DEFAULT_TIMEOUT, Settings, default_model, make_settings
from client_sdk._transport.address import Url
from client_sdk._transport.connection import FilePath

_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^\s/?#@A-Z]+")
"""As a browser sends it: nothing else is ever equal to what it sends."""


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Which servers a gateway asks, and what it takes from its callers. Raises InvalidArgument for what cannot be.

    Attributes:
        triton: Address or addresses of the server, as `Client` takes them. Default: CLIENT_SDK_URL, or
            `localhost:8001`.
        keys: A file of the names and key hashes of those who may ask, see `gateway.keys`. Default: everybody may.
        cors: Origins whose pages may ask, such as `https://search.example.com`, or `*` for all; none by default.
        model: The family that answers requests which name none. Default: CLIENT_SDK_MODEL, or `bert`; if it is not
            there, or not of the kind that is asked for, the only one that is.
        timeout: Seconds that an answer may take.
        max_body_bytes: Of a request.
        max_texts: Of a request, pairs and documents counted alike.
        max_concurrency: Requests that are answered at a time; more are told to come again.
        body_timeout: Seconds in which a request's body has to arrive.
        headers: Sent to the server, as those of `Client`; and so are the following.
        api_key: The key of a restricted server.
        root_certificates: PEM file of the authorities to trust.
        client_certificate: PEM file to show to the server.
        client_key: PEM file of its private key.
    """

    triton: Url | None = None
    keys: FilePath | None = None
    cors: Sequence[str] = ()
    model: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    max_body_bytes: int = 32 << 20
    max_texts: int = 2048
    max_concurrency: int = 256
    body_timeout: float = 30.0
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    root_certificates: FilePath | None = None
    client_certificate: FilePath | None = None
    client_key: FilePath | None = None

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_texts", "max_concurrency"):
            positive_int(name, getattr(self, name))
        for name in ("timeout", "body_timeout"):
            seconds(name, getattr(self, name))
        if isinstance(self.cors, str):  # in which a part of it would be found, too
            raise InvalidArgument(f"cors must be a list of origins, not {self.cors!r}: give [{self.cors!r}]")
        for origin in self.cors:
            if not _ORIGIN.fullmatch(origin):
                raise InvalidArgument(
                    f"cors {origin!r} is no origin: give scheme://host or scheme://host:port in small letters, with "
                    "nothing behind it, or *"
                )
        self.of_client(self.default_model)

    @property
    def default_model(self) -> str:
        """The family that is asked where a request names none."""
        return (default_model() if self.model is None else self.model) or DEFAULT_MODEL

    def of_client(self, model: str) -> Settings:
        """Those of a client for one family."""
        return make_settings(
            self.triton,
            model,
            timeout=self.timeout,
            headers=self.headers,
            api_key=self.api_key,
            root_certificates=self.root_certificates,
            client_certificate=self.client_certificate,
            client_key=self.client_key,
        )
