"""How to connect: addresses, headers and TLS files, checked when a client is made."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from client_sdk._api_key import checked_api_key, key_header
from client_sdk._errors import InvalidArgument, InvalidType
from client_sdk._transport.address import Address, Url, parse_addresses

_GRPC_NAME = re.compile(r"[0-9a-z_.-]+")
_HTTP_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[ -~]*")

_OF_THE_PROTOCOL = re.compile(
    "connection|content-(encoding|length|type)|expect|inference-header-content-length|keep-alive|te|trailer"
    "|transfer-encoding|upgrade"
)
"""What describes the message or the connection: another value would break it."""

FilePath = str | os.PathLike[str]


@dataclass(frozen=True)
class Tls:
    """The PEM files of an encrypted connection; all None means the system's certificate authorities."""

    root_certificates: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None

    def check_files(self) -> None:
        """Raise InvalidArgument for one that is not there, as may be where a client has travelled to."""
        for name, path in vars(self).items():
            if path is not None and not path.is_file():
                raise InvalidArgument(f"{name}: there is no file {str(path)!r}")

    def check(self) -> None:
        """The same, and for one that holds nothing that encryption could use."""
        self.check_files()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.root_certificates is not None:
            with _named(f"root_certificates: {str(self.root_certificates)!r} holds no certificates in PEM"):
                context.load_verify_locations(self.root_certificates)
        if self.client_certificate is not None:
            files = f"client_certificate {str(self.client_certificate)!r} and client_key {str(self.client_key)!r}"
            with _named(f"{files} are no certificate in PEM and its key without a password"):
                # Without the last argument OpenSSL asks for a password, on the terminal.
                context.load_cert_chain(self.client_certificate, self.client_key, lambda: b"")


@dataclass(frozen=True)
class Connection:
    """Everything that is needed to open a transport to one address."""

    address: Address
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # they may hold secrets
    tls: Tls = Tls()
    has_api_key: bool = False  # which is among the headers


@dataclass(frozen=True)
class ConnectionOptions:
    """What a caller says about its connections, unchecked; None for what is not said."""

    headers: Mapping[str, str] | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    root_certificates: FilePath | None = None
    client_certificate: FilePath | None = None
    client_key: FilePath | None = None

    def tls_files(self) -> dict[str, Path]:
        """Those that are named, by the name of the option."""
        files = {name: getattr(self, name) for name in Tls.__dataclass_fields__}
        return {name: _path(name, path) for name, path in files.items() if path is not None}


def make_connections(url: Url, options: ConnectionOptions) -> tuple[Connection, ...]:
    """Check what the user gave, and give a connection for each address; nothing is opened yet."""
    addresses = parse_addresses(url)
    uses_grpc = addresses[0].uses_grpc
    tls = _checked_tls(addresses[0], options.tls_files())
    sent = _checked_headers(options.headers or {}, uses_grpc=uses_grpc)
    if options.api_key is not None:
        shown = key_header(checked_api_key(options.api_key), uses_grpc=uses_grpc)
        if shown.keys() & {name.lower() for name in sent}:
            raise InvalidArgument(f"headers and api_key both give the header {', '.join(shown)!r}: give one of them")
        sent.update(shown)
    return tuple(Connection(address, sent, tls, options.api_key is not None) for address in addresses)


def _checked_tls(address: Address, given: Mapping[str, Path]) -> Tls:
    if given and not address.uses_tls:
        raise InvalidArgument(f"{', '.join(given)}: only for grpcs:// and https://, and the url is {address}")
    if ("client_certificate" in given) != ("client_key" in given):
        raise InvalidArgument("client_certificate and client_key belong together: give both or neither")
    tls = Tls(**given)
    tls.check_files()
    return tls


@contextmanager
def _named(problem: str) -> Iterator[None]:
    """Within it what OpenSSL says of a file is InvalidArgument."""
    try:
        yield
    except OSError as error:  # of which ssl.SSLError is one
        raise InvalidArgument(f"{problem} ({error.strerror or error})") from None


def _path(name: str, value: FilePath) -> Path:
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidType(f"{name} must be the path of a PEM file, not {type(value).__name__}")
    if "-----BEGIN" in os.fspath(value):  # what it holds may be secret
        raise InvalidArgument(f"{name} must be the path of a PEM file, and is what such a file holds")
    return Path(value)


def _checked_headers(headers: Mapping[str, str], *, uses_grpc: bool) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise InvalidType(f"headers must be a mapping of str to str, not {type(headers).__name__}")
    sent: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidType(f"headers must map str to str; {name!r} is mapped to {value!r}")
        if uses_grpc and not _GRPC_NAME.fullmatch(name.lower()):
            raise InvalidArgument(f"header {name!r}: a name over gRPC has letters, digits and the signs - _ . only")
        if not _HTTP_NAME.fullmatch(name):
            raise InvalidArgument(f"header {name!r}: a name over HTTP has letters, digits and !#$%&'*+-.^_`|~ only")
        if not _VALUE.fullmatch(value):
            raise InvalidArgument(f"header {name!r}: names and values must be printable ASCII")
        known = name.lower()
        if uses_grpc and known.endswith("-bin"):
            raise InvalidArgument(f"header {name!r}: over gRPC a name that ends in -bin stands for bytes, not for str")
        if _OF_THE_PROTOCOL.fullmatch(known) or (uses_grpc and known.startswith("grpc-")):
            raise InvalidArgument(f"header {name!r}: the protocol sets it itself, and it cannot be given")
        if known in (other.lower() for other in sent):
            raise InvalidArgument(f"header {name!r} is given twice; the case of its letters makes no difference")
        sent[name] = value
    return sent
