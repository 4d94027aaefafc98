"""`python -m client_sdk serve`: a model repository, served until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from client_sdk._errors import ClientError
from client_sdk._local_server import CLOSED_ENDPOINTS, LocalServer, models_in

_DEFAULT_GRPC_PORT = 8001
_DEFAULT_MODEL = "bert"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `serve` to a command line."""
    parser.add_argument("--model-repository", metavar="DIR", required=True, help="the directory of models")
    parser.add_argument("--http-port", type=int, default=8000, metavar="PORT", help="default: 8000")
    parser.add_argument("--grpc-port", type=int, default=_DEFAULT_GRPC_PORT, metavar="PORT", help="default: 8001")
    parser.add_argument("--metrics-port", type=int, default=8002, metavar="PORT", help="default: 8002")
    parser.add_argument(
        "--listen",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="the address to listen on; default: 127.0.0.1, this machine alone. 0.0.0.0 opens inference, "
        "metadata, statistics and metrics to every network that it is on, without password or encryption",
    )
    parser.add_argument("--tritonserver", metavar="PATH", help="the program; it is looked for if not given")
    parser.add_argument(
        "--open",
        default="",
        metavar="NAME,...",
        help=f"endpoints to open that are closed by default: {', '.join(CLOSED_ENDPOINTS)}",
    )
    parser.add_argument("--startup-timeout", type=float, default=120.0, metavar="SECONDS", help="default: 120")
    parser.add_argument("--verbose", action="store_true", help="show tritonserver's log")


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C or SIGTERM (0), or until the server ends by itself or does not start (1)."""
    try:
        with _sigterm_as_ctrl_c():
            return _serve(args)
    except KeyboardInterrupt:
        return 0
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _serve(args: argparse.Namespace) -> int:
    server = LocalServer(
        args.model_repository,
        executable=args.tritonserver,
        host=args.listen,
        http_port=args.http_port,
        grpc_port=args.grpc_port,
        metrics_port=args.metrics_port,
        startup_timeout=args.startup_timeout,
        open_endpoints=[name.strip() for name in args.open.split(",") if name.strip()],
    )
    print(f"starting tritonserver on {server.model_repository} ...", flush=True)
    with _log_shown(server) if args.verbose else contextlib.nullcontext(), server:
        try:
            print(_greeting(server, args.listen), flush=True)
            status = server.wait()
        except KeyboardInterrupt:
            print("\nstopping ...", flush=True)
            return 0
        reasons = "\n  ".join(server.failure_reasons())
    print(f"error: tritonserver stopped (status {status}):\n  {reasons}", file=sys.stderr)
    return 1


def _greeting(server: LocalServer, listen: str) -> str:
    lines = [
        "ready",
        f"  gRPC     {server.grpc_url}",
        f"  HTTP     {server.http_url}",
        f"  metrics  {server.metrics_url}",
    ]
    if not server.is_loopback:
        lines.append(
            f"open on {listen}: whoever reaches this machine can use inference, metadata, statistics and "
            "metrics; nothing is asked for and nothing is encrypted"
        )
    if server.open_endpoints:
        lines.append(f"opened: {', '.join(sorted(server.open_endpoints))}")
    models = models_in(server.model_repository)
    families = [name for name in models if f"{name}_tokenizer" in models]
    if families:
        lines += ["", "Try it in Python:"]
        settings = []
        if server.grpc_url != f"grpc://127.0.0.1:{_DEFAULT_GRPC_PORT}":
            settings.append(f"CLIENT_SDK_URL={server.grpc_url}")
        if _DEFAULT_MODEL not in families:
            settings.append(f"CLIENT_SDK_MODEL={families[0]}")
        if settings:
            lines[-1] = f"Try it in Python, with {' '.join(settings)} in its environment:"
        lines += ["  import client_sdk", '  client_sdk.encode(["First do it", "then do it right"])']
    return "\n".join([*lines, "", "Ctrl-C stops it."])


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _log_shown(server: LocalServer) -> Iterator[None]:
    """Copies the server's log to standard error while it is written."""
    ended = threading.Event()

    def follow() -> None:
        shown = 0
        while not ended.wait(0.2):
            # The log is closed while the server is stopped.
            with contextlib.suppress(ValueError):
                new = server.read_log(shown)
                shown += len(new)
                sys.stderr.buffer.write(new)
                sys.stderr.buffer.flush()

    thread = threading.Thread(target=follow, name="server log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
