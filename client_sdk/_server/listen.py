"""Where a local server listens: the host as every part of Triton wants it, and ports that are free."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from dataclasses import dataclass

from client_sdk._errors import InvalidArgument, ServerStartError


@dataclass(frozen=True)
class Host:
    """An address of this machine, to bind to."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address

    @classmethod
    def resolve(cls, name: str) -> Host:
        """The address that `name` stands for, IPv4 if it has one. Raises InvalidArgument if it has none."""
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise InvalidArgument(
                f"host {name!r} is not an address of this machine ({error}); "
                "127.0.0.1 is for this machine alone, 0.0.0.0 for every network that it is on"
            ) from None
        found.sort(key=lambda item: item[0] != socket.AF_INET)
        return cls(ipaddress.ip_address(found[0][4][0]))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.address.is_loopback

    @property
    def loopback(self) -> Host:
        """This address if it is one for this machine alone, else the one that is, of the same family."""
        return (
            self
            if self.is_loopback
            else Host(ipaddress.ip_address("::1" if self.address.version == 6 else "127.0.0.1"))
        )

    @property
    def http_argument(self) -> str:
        """As tritonserver's --http-address and --metrics-address want it."""
        return f"ipv6:{self.address}" if self.address.version == 6 else str(self.address)

    @property
    def grpc_argument(self) -> str:
        """As tritonserver's --grpc-address wants it."""
        return f"[{self.address}]" if self.address.version == 6 else str(self.address)

    @property
    def connect_address(self) -> str:
        """The address at which this machine reaches what is bound here."""
        if self.address.is_unspecified:
            return "::1" if self.address.version == 6 else "127.0.0.1"
        return str(self.address)

    @property
    def url_host(self) -> str:
        """`connect_address` as it stands in a URL."""
        return f"[{self.connect_address}]" if ":" in self.connect_address else self.connect_address

    def bind(self, port: int) -> socket.socket:
        """A socket bound to `port`, to any free one if 0."""
        bound = socket.socket(socket.AF_INET6 if self.address.version == 6 else socket.AF_INET)
        try:
            # As servers do; without it a port is taken for a minute after its last connection.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((str(self.address), port))
        except BaseException:
            bound.close()
            raise
        return bound


@dataclass(frozen=True)
class Ports:
    """The ports of a server."""

    http: int
    grpc: int
    metrics: int


def choose_ports(host: Host, *, http: int | None, grpc: int | None, metrics: int | None) -> Ports:
    """Those given, and free ones for those that are None. Raises ServerStartError if one cannot be had.

    Nothing is reserved: another process may take them before the server does.
    """
    wanted = {"http": http, "grpc": grpc, "metrics": metrics}
    chosen: dict[str, int] = {}
    with contextlib.ExitStack() as bound:
        # The given ones first, so that they are not taken as free ones. All stay bound until all are chosen.
        for name, port in sorted(wanted.items(), key=lambda item: item[1] is None):
            try:
                held = bound.enter_context(host.bind(port or 0))
            except OSError as error:
                raise ServerStartError(_why_not_bound(host, name, port, error)) from None
            chosen[name] = held.getsockname()[1]
    return Ports(**chosen)


def _why_not_bound(host: Host, name: str, port: int | None, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"{name} port {port} is already in use on {host.address}: "
            "stop the server that listens there, or choose another port"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host.address} is not an address of this machine: bind to 127.0.0.1, or to 0.0.0.0 for all"
    return f"{name} port {port or 'any'} on {host.address} cannot be used: {error.strerror or error}"
