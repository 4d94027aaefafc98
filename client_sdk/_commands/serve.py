"""`python -m client_sdk serve`: a model repository, served until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from client_sdk._api_key import read_api_key
from client_sdk._commands import gateway_beside
from client_sdk._commands.signals import sigterm_as_ctrl_c
from client_sdk._errors import ClientError
from client_sdk._server.local_server import LocalServer
from client_sdk._server.repository.families import read_repository
from client_sdk._server.run import logger
from client_sdk._server.settings import CLOSED_ENDPOINTS, SHORTEST_API_KEY
from client_sdk._settings import default_api_key

_DEFAULT_GRPC_PORT = 8001
_DEFAULT_MODEL = "bert"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve` to a command line."""
    parser.add_argument("--model-repository", metavar="DIR", required=True, help="the directory of models")
    parser.add_argument("--http-port", type=int, default=8000, metavar="PORT", help="default: 8000")
    parser.add_argument("--grpc-port", type=int, default=_DEFAULT_GRPC_PORT, metavar="PORT", help="default: 8001")
    parser.add_argument("--metrics-port", type=int, default=8002, metavar="PORT", help="default: 8002")
    parser.add_argument(
        *("--listen", "--host"),
        default="127.0.0.1",
        metavar="ADDRESS",
        help="the address to listen on; default: 127.0.0.1, this machine alone. 0.0.0.0 opens inference, "
        "metadata, statistics and metrics to every network that it is on, without password or encryption unless "
        "the following ask for them",
    )
    parser.add_argument(
        "--api-key-file",
        metavar="FILE",
        help="clients must send the key that it holds, of at least "
        f"{SHORTEST_API_KEY} characters; default: the environment's CLIENT_SDK_API_KEY, if it is set",
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="PEM: encrypt gRPC, and keep HTTP on this machine")
    parser.add_argument("--tls-key", metavar="FILE", help="PEM: the certificate's key")
    parser.add_argument(
        "--tls-client-ca", metavar="FILE", help="PEM: gRPC clients need a certificate of this authority"
    )
    parser.add_argument("--tritonserver", metavar="PATH", help="the program; it is looked for if not given")
    parser.add_argument(
        "--open",
        default="",
        metavar="NAME,...",
        help=f"endpoints to open that are closed by default: {', '.join(CLOSED_ENDPOINTS)}",
    )
    parser.add_argument(
        "--trace",
        metavar="otlp=URL",
        help="send OpenTelemetry traces to a collector, such as otlp=http://localhost:4318/v1/traces",
    )
    parser.add_argument(
        "--trace-rate",
        type=int,
        default=100,
        metavar="N",
        help="trace one request in N, and all with a traceparent header; 0: only those; default: 100",
    )
    parser.add_argument(
        "--no-restart",
        action="store_true",
        help="end when tritonserver ends; otherwise it is started again then, and when it no longer serves, and so is "
        "a gateway that ends",
    )
    gateway_beside.add_arguments(parser)
    parser.add_argument("--startup-timeout", type=float, default=120.0, metavar="SECONDS", help="default: 120")
    parser.add_argument(
        "--log", metavar="FILE", help="append tritonserver's log to it; or a pipe or terminal, such as /dev/stderr"
    )
    parser.add_argument("--verbose", action="store_true", help="show tritonserver's log")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM (0); 1 if the server does not start, or ends and is not to be started again.

    Raises:
        OSError: the key's file cannot be read.
    """
    try:
        with sigterm_as_ctrl_c(), _restarts_shown():
            return _serve(args)
    except KeyboardInterrupt:
        return 0
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _serve(args: argparse.Namespace) -> int:
    api_key = default_api_key() if args.api_key_file is None else read_api_key(args.api_key_file)
    gateway_beside.check(args, api_key is not None)
    server = LocalServer(
        args.model_repository,
        executable=args.tritonserver,
        host=args.listen,
        http_port=args.http_port,
        grpc_port=args.grpc_port,
        metrics_port=args.metrics_port,
        startup_timeout=args.startup_timeout,
        open_endpoints=[name.strip() for name in args.open.split(",") if name.strip()],
        api_key=api_key,
        tls_certificate=args.tls_cert,
        tls_key=args.tls_key,
        tls_client_ca=args.tls_client_ca,
        trace=args.trace,
        trace_rate=args.trace_rate,
        supervise=not args.no_restart,
        log=args.log,
        extra_args=args.triton_options,
    )
    print(f"starting tritonserver on {_shown(server.model_repository)} ...", flush=True)
    with _log_shown(server) if args.verbose else contextlib.nullcontext(), server:
        try:
            with gateway_beside.running(server, args, api_key) as gateway:
                print(_greeting(server, gateway, args), flush=True)
                status = server.wait()
        except KeyboardInterrupt:
            print("\nstopping ...", flush=True)
            return 0
        reasons = "\n  ".join(server.failure_reasons())
    print(f"error: tritonserver stopped (status {status}):\n  {reasons}", file=sys.stderr)
    return 1


def _shown(path: Path) -> str:
    """The path, quoted where a terminal would not show it as it is."""
    return str(path) if str(path).isprintable() else repr(str(path))


def _greeting(server: LocalServer, gateway: str | None, args: argparse.Namespace) -> str:
    lines = [
        "ready",
        f"  gRPC     {server.grpc_url}",
        f"  HTTP     {server.http_url}",
        f"  metrics  {server.metrics_url}",
        *([f"  gateway  {gateway}/v1, and its page {gateway}/"] if gateway else []),
    ]
    if not server.is_loopback:
        lines.append(_what_is_open(server, args))
    elif server.asks_for_key:
        lines.append("clients must send the key (api_key=..., or CLIENT_SDK_API_KEY)")
    if server.open_endpoints:
        lines.append(f"opened: {', '.join(server.open_endpoints)}")
    if args.trace:
        which = f"one request in {args.trace_rate} and those" if args.trace_rate else "requests"
        lines.append(f"traces of {which} with a traceparent header go to {args.trace.removeprefix('otlp=')}")
    return "\n".join([*lines, *_example(server, args), "", "Ctrl-C stops it."])


def _what_is_open(server: LocalServer, args: argparse.Namespace) -> str:
    if server.asks_for_key:
        use = (
            "whoever reaches this machine can see health and metrics; "
            "inference, metadata, configuration and statistics are for those with the key"
        )
    else:
        use = (
            "whoever reaches this machine can use inference, metadata, statistics and metrics; nothing is asked for"
            if not args.tls_client_ca
            else "whoever has a certificate of the authority can use the models, whoever reaches this machine metrics"
        )
    if args.tls_cert:
        return f"open on {args.listen}: {use}; gRPC is encrypted, metrics are not, and HTTP is for this machine alone"
    return f"open on {args.listen}: {use} and nothing is encrypted"


def _example(server: LocalServer, args: argparse.Namespace) -> list[str]:
    repository = read_repository(server.model_repository)
    if not repository.families:
        return []
    family = _DEFAULT_MODEL if _DEFAULT_MODEL in repository.families else repository.families[0]
    method = repository.kind(family).method
    call = f'{method}(["First do it", "then do it right"])'
    if args.tls_cert:
        model = "" if family == _DEFAULT_MODEL else f", {family!r}"
        client = f'client_sdk.Client("{server.grpc_url}"{model}, root_certificates="ca.pem")'
        return ["", "Try it in Python:", "  import client_sdk", f"  {client}.{call}"]
    settings = []
    if server.grpc_url != f"grpc://127.0.0.1:{_DEFAULT_GRPC_PORT}":
        settings.append(f"CLIENT_SDK_URL={server.grpc_url}")
    if family != _DEFAULT_MODEL:
        settings.append(f"CLIENT_SDK_MODEL={family}")
    if server.asks_for_key:
        settings.append("CLIENT_SDK_API_KEY=(the key)")
    where = f", with {' '.join(settings)} in its environment" if settings else ""
    client = "client_sdk" if method == "encode" else "client_sdk.Client()"
    return ["", f"Try it in Python{where}:", "  import client_sdk", f"  {client}.{call}"]


@contextlib.contextmanager
def _restarts_shown() -> Iterator[None]:
    """Print what the supervisor says, also of a check that failed, to standard error, with the time."""
    level = logger.level
    logger.setLevel(logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextlib.contextmanager
def _log_shown(server: LocalServer) -> Iterator[None]:
    """Copy the server's log to standard error while it is written."""
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
