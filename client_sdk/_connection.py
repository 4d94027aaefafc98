"""How to connect: address, headers and TLS files, checked when a client is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ._address import Address, parse_address
from ._errors import InvalidArgument, InvalidType
from ._transport import AsyncTransport, Transport

FilePath = str | os.PathLike[str]


@dataclass(frozen=True)
class Tls:
    """The PEM files of an encrypted connection; all None means the system's certificate authorities."""

    root_certificates: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None


@dataclass(frozen=True)
class Connection:
    """Everything that is needed to open a transport."""

    address: Address
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: Tls = Tls()


def make_connection(
    url: str,
    headers: Mapping[str, str] | None,
    root_certificates: FilePath | None,
    client_certificate: FilePath | None,
    client_key: FilePath | None,
) -> Connection:
    """Check what the user gave; nothing is opened yet."""
    address = parse_address(url)
    files = {
        "root_certificates": root_certificates,
        "client_certificate": client_certificate,
        "client_key": client_key,
    }
    given = {name: Path(path) for name, path in files.items() if path is not None}
    if given and not address.uses_tls:
        raise InvalidArgument(f"{', '.join(given)}: only for grpcs:// and https://, and the url is {address}")
    if ("client_certificate" in given) != ("client_key" in given):
        raise InvalidArgument("client_certificate and client_key belong together: give both or neither")
    for name, path in given.items():
        if not path.is_file():
            raise InvalidArgument(f"{name}: there is no file {str(path)!r}")
    return Connection(address, _checked_headers(headers or {}), Tls(**given))


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidType(f"headers must map str to str; {name!r} is mapped to {value!r}")
        if not name or not (name + value).isprintable() or not (name + value).isascii():
            raise InvalidArgument(f"header {name!r}: names and values must be printable ASCII")
    return dict(headers)


def open_transport(connection: Connection) -> Transport:
    """The blocking transport of the address's protocol; only that protocol's libraries are imported."""
    if connection.address.uses_grpc:
        from ._grpc_transport import GrpcTransport

        return GrpcTransport(connection)
    from ._http_transport import HttpTransport

    return HttpTransport(connection)


def open_async_transport(connection: Connection) -> AsyncTransport:
    """The asynchronous transport of the address's protocol; to be called in the event loop that uses it."""
    if connection.address.uses_grpc:
        from ._grpc_transport import AsyncGrpcTransport

        return AsyncGrpcTransport(connection)
    from ._http_transport import AsyncHttpTransport

    return AsyncHttpTransport(connection)
