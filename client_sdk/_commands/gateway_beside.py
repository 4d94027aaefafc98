"""A gateway that `serve` starts beside the server: a process of its own, which ends with it."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

from client_sdk._errors import ClientError, InvalidArgument
from client_sdk._server import guard
from client_sdk._server.local_server import LocalServer

_GRACE_SECONDS = 35.0  # a gateway itself gives requests that are being answered 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve` that are about it."""
    parser.add_argument(
        "--gateway-port",
        type=int,
        metavar="PORT",
        help="start a gateway beside the server: HTTP as OpenAI's and other clients speak it, and a page to look at. "
        "Default: none; see `gateway`, which has more options",
    )
    parser.add_argument("--gateway-keys", metavar="FILE", help="the names and key hashes of those who may ask it")
    parser.add_argument("--no-gateway", action="store_true", help="start none, whatever --gateway-port says")


def check(args: argparse.Namespace, asks_for_key: bool) -> None:
    """Raise ClientError for what cannot be, before anything is started."""
    if not wanted(args):
        return
    if args.tls_cert:
        raise InvalidArgument("--gateway-port and --tls-cert do not go together: start `gateway` by itself")
    if asks_for_key and not args.gateway_keys:
        raise InvalidArgument(
            "the server asks for a key, and a gateway beside it would answer everybody: give --gateway-keys, or "
            "--no-gateway"
        )
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if importlib.util.find_spec(name) is None]
    if missing:
        raise ClientError(f"the gateway needs {', '.join(missing)}: pip install 'bert-on-triton[gateway]'")


def wanted(args: argparse.Namespace) -> bool:
    """Whether there is to be one."""
    return args.gateway_port is not None and not args.no_gateway


@contextlib.contextmanager
def running(server: LocalServer, args: argparse.Namespace, api_key: str | None) -> Iterator[str | None]:
    """Within it there is one, if it is wanted, and it listens: its address.

    Raises:
        ClientError: It did not start; it has said why on standard error.
    """
    if not wanted(args):
        yield None
        return
    listen = f"[{args.listen}]" if ":" in args.listen else args.listen
    process = subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", guard.__file__, f"--parent={os.getpid()}", f"--grace={_GRACE_SECONDS}", "--"),
            *(sys.executable, "-m", "client_sdk", "gateway", f"--triton={server.grpc_url}"),
            *(f"--listen={listen}:{args.gateway_port}", "--no-access-log"),
            *([f"--keys={args.gateway_keys}"] if args.gateway_keys else []),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **({"CLIENT_SDK_API_KEY": api_key} if api_key else {})},
        start_new_session=True,
    )
    try:
        host = server.grpc_url.partition("://")[2].rpartition(":")[0]
        if process.stdout is None or not process.stdout.readline():  # it greets once it listens
            raise ClientError("the gateway did not start")
        yield f"http://{host}:{args.gateway_port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.wait(_GRACE_SECONDS + 10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
