"""A gateway that `serve` starts beside the server: a process of its own, started again if it ends before the server."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from client_sdk._checks import LARGEST_PORT
from client_sdk._errors import ClientError, InvalidArgument
from client_sdk._server import guard
from client_sdk._server.local_server import LocalServer
from client_sdk._server.run import logger
from client_sdk._server.supervisor import Pauses

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
    if not 0 < args.gateway_port <= LARGEST_PORT:  # a free one would be nowhere to be read
        raise InvalidArgument(f"--gateway-port is {args.gateway_port}: it is from 1 to {LARGEST_PORT}")
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
    """Within it there is one, if it is wanted, and it listens: its address. One that ends is started again.

    Raises:
        ClientError: It did not start; it has said why on standard error.
    """
    if not wanted(args):
        yield None
        return
    listen = f"[{args.listen}]" if ":" in args.listen else args.listen
    command = [
        *(sys.executable, "-I", "-S", guard.__file__, f"--parent={os.getpid()}", f"--grace={_GRACE_SECONDS}", "--"),
        *(sys.executable, "-m", "client_sdk", "gateway", f"--triton={server.grpc_url}"),
        *(f"--listen={listen}:{args.gateway_port}", "--no-access-log"),
        *([f"--keys={args.gateway_keys}"] if args.gateway_keys else []),
    ]
    environment = {**os.environ, **({"CLIENT_SDK_API_KEY": api_key} if api_key else {})}
    gateway = _Gateway(command, environment, is_started_again=not args.no_restart)
    try:
        host = server.grpc_url.partition("://")[2].rpartition(":")[0]
        gateway.wait_until_it_listens()
        gateway.look_after()
        yield f"http://{host}:{args.gateway_port}"
    finally:
        gateway.end()


class _Gateway:
    """A gateway's process, and what starts it again."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, is_started_again: bool) -> None:
        self._command = command
        self._environment = environment
        self._is_started_again = is_started_again
        self._is_ending = threading.Event()
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process = self._begun()

    def wait_until_it_listens(self) -> None:
        """Raise ClientError if it ends before that."""
        greeting = self._process.stdout
        if greeting is None or not greeting.readline():  # it greets once it listens
            raise ClientError("the gateway did not start")

    def look_after(self) -> None:
        """Start it again whenever it ends by itself, unless that is not wanted."""
        if self._is_started_again:
            self._thread = threading.Thread(target=self._bring_back, name="gateway supervisor", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Let it answer what it is answering, and end it."""
        self._is_ending.set()
        with self._changing:
            process = self._process
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.wait(_GRACE_SECONDS + 10)
        if self._thread is not None:
            self._thread.join()
        _close(process)

    def _bring_back(self) -> None:
        pauses = Pauses()
        while not self._is_ending.is_set():
            started = time.monotonic()
            status = self._process.wait()
            pause = pauses.after_run_of(time.monotonic() - started)
            if self._is_ending.is_set():
                return
            when = f" in {pause:g} s" if pause else ""
            logger.error("the gateway has ended (status %d); starting it again%s", status, when)
            if self._is_ending.wait(pause):
                return
            try:
                with self._changing:
                    if self._is_ending.is_set():
                        return
                    _close(self._process)
                    self._process = self._begun()
                self.wait_until_it_listens()
                logger.warning("the gateway is back")
            except (ClientError, OSError) as error:
                logger.error("the gateway is not back: %s", error)

    def _begun(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
        )


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
