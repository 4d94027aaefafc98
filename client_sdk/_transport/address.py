"""Where a server is, or several are: the URLs that a user gives, parsed and checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from client_sdk._errors import InvalidArgument, InvalidType

DEFAULT_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 8000}
ALLOWED_FORMS = "host:port, grpc://host:port, grpcs://host:port, http://host:port or https://host:port"

_BELOW_ROOT = re.compile(r"/v2/(?:models|health|repository|logging|trace)\b")

Url = str | Sequence[str]
"""One address or several: a str, with commas between them, or a list of str."""


@dataclass(frozen=True)
class Address:
    """One endpoint of a Triton server."""

    scheme: str
    host: str
    port: int
    path: str = ""  # where a gateway serves Triton's HTTP endpoint, such as "/triton"; none for gRPC

    @property
    def uses_grpc(self) -> bool:
        """Whether the endpoint speaks gRPC; otherwise it speaks HTTP."""
        return self.scheme in ("grpc", "grpcs")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("grpcs", "https")

    @property
    def authority(self) -> str:
        """`host:port`, with the brackets that an IPv6 host needs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        """The address as a URL, with its scheme and its port."""
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_addresses(url: Url) -> tuple[Address, ...]:
    """Read one URL or several (with commas between them, or as a list), which must have one scheme."""
    if isinstance(url, bytes) or not isinstance(url, (str, Sequence)):
        raise InvalidType(f"url must be a str, such as 'localhost:8001', or a list of str, not {type(url).__name__}")
    addresses = tuple(map(parse_address, url.split(",") if isinstance(url, str) else url))
    if not addresses:
        raise InvalidArgument(f"url is an empty {type(url).__name__}; allowed: {ALLOWED_FORMS}, or several of them")
    named = ", ".join(map(str, addresses))
    if len({address.scheme for address in addresses}) > 1:
        raise InvalidArgument(f"url {url!r}: all addresses must have the same scheme, and they are {named}")
    if len(set(addresses)) < len(addresses):
        raise InvalidArgument(f"url {url!r}: an address is given twice, of {named}")
    return addresses


def parse_address(url: str) -> Address:
    """Read a URL, or `host:port`, which means gRPC; a missing port is Triton's own (gRPC 8001, HTTP 8000)."""
    if not isinstance(url, str):
        raise InvalidType(f"url must be a str, such as 'localhost:8001', not {type(url).__name__}")

    def refused(reason: str) -> InvalidArgument:
        return InvalidArgument(f"url {url!r}: {reason}; allowed: {ALLOWED_FORMS}")

    try:
        parts = urlsplit(url.strip() if "://" in url else f"grpc://{url.strip()}")
        port = parts.port
    except ValueError as error:
        raise refused(str(error)) from None
    if parts.scheme not in DEFAULT_PORTS:
        raise refused(f"the scheme {parts.scheme!r} is not known")
    if not parts.hostname:
        raise refused("there is no host")
    if parts.username is not None or parts.query or parts.fragment:
        raise refused("a user, a query or a fragment has no meaning here (use `headers` for credentials)")
    if port == 0:
        raise refused("port 0 is none that a server can be reached at")
    path = parts.path.rstrip("/")
    if path and parts.scheme in ("grpc", "grpcs"):
        raise refused("a gRPC endpoint has no path")
    if _BELOW_ROOT.search(path):
        raise refused("give the part before /v2 only, and the model by its name (model=...)")
    path = path.removesuffix("/v2")  # where Triton's own paths begin, and the client's with them
    return Address(parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme], path)
