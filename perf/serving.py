"""The server that is measured: one that runs already, or one for as long as the measurement takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import client_sdk
from client_sdk._transport.address import Address
from perf import numbers, report
from perf.failure import Failure

PORTS = {"grpc": 8001, "http": 8000}


@dataclass(frozen=True)
class Target:
    """Where the server is: `host:port` for each protocol that is known."""

    addresses: dict[str, str]

    @property
    def grpc_url(self) -> str:
        """The gRPC address as a client takes it.

        Raises:
            Failure: only HTTP is known.
        """
        return f"grpc://{self._address('grpc')}"

    def _address(self, protocol: str) -> str:
        if protocol not in self.addresses:
            raise Failure(f"this needs the server's {protocol} address: --url {protocol}://host:port")
        return self.addresses[protocol]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every command about a server has."""
    parser.add_argument("--model", default="bert", help="family to measure (default: %(default)s)")
    parser.add_argument(
        "--url",
        action="append",
        default=[],
        help="of a running server, grpc://host:port or http://host:port; both may be given, one after the other "
        "(default: start one for the measurement)",
    )
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        metavar="DIR",
        help="model repository to serve, and to take the tokenizer from (default: %(default)s)",
    )
    report.add_output(parser)


def add_server_pid(parser: argparse.ArgumentParser) -> None:
    """The option of those that look at the server's processes."""
    parser.add_argument(
        "--server-pid", type=numbers.count, help="process id of the tritonserver that --url names, on this machine"
    )


def check_server_pid(args: argparse.Namespace) -> None:
    """Raise Failure where it is not known which processes are the server's."""
    if args.url and args.server_pid is None:
        raise Failure("with --url, --server-pid says which process on this machine is the server")
    if args.server_pid is not None and not args.url:
        raise Failure("--server-pid is of a server that runs: say where it is with --url")


@contextmanager
def serving(args: argparse.Namespace) -> Iterator[Target]:
    """The server that `args` name, or a LocalServer within the `with` block."""
    if args.url:
        yield Target(read_urls(args.url))
        return
    print("starting tritonserver ...", flush=True)
    with client_sdk.LocalServer(args.repository) as server:
        yield Target(read_urls([server.grpc_url, server.http_url]))


def read_urls(urls: Sequence[str]) -> dict[str, str]:
    """Protocol -> `host:port`. Raises Failure for anything but plain gRPC and HTTP, and for two of one protocol."""
    addresses: dict[str, str] = {}
    for url in urls:
        address = read_address("--url", url if "://" in url else f"grpc://{url}", PORTS)
        if address.scheme in addresses:
            raise Failure(f"--url {url}: {address.scheme}://{addresses[address.scheme]} was given too; one is measured")
        addresses[address.scheme] = address.authority
    return addresses


def read_address(option: str, url: str, ports: Mapping[str, int]) -> Address:
    """A URL of one of the schemes of `ports`, whose port is theirs unless it has one. Raises Failure for another."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # of a port that is no number, or of brackets that stay open
        parts, port = urlsplit(""), None
    if parts.scheme not in ports or not parts.hostname or parts.path.strip("/") or port == 0:
        forms = " or ".join(f"{scheme}://host:port" for scheme in ports)
        raise Failure(f"{option} {url}: it is {forms}, without TLS or a path")
    return Address(parts.scheme, parts.hostname, port or ports[parts.scheme])
