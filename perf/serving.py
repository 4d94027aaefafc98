"""The server that is measured: one that runs already, or one for as long as the measurement takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import client_sdk
from perf import report
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
    """Protocol -> `host:port`. Raises Failure for anything but plain gRPC and HTTP."""
    addresses = {}
    for url in urls:
        parts = urlsplit(url if "://" in url else f"grpc://{url}")
        if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/"):
            raise Failure(f"--url {url}: it is grpc://host:port or http://host:port, without TLS or a path")
        addresses[parts.scheme] = parts.netloc if parts.port else f"{parts.netloc}:{PORTS[parts.scheme]}"
    return addresses
