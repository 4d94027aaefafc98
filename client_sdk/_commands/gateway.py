"""`python -m client_sdk gateway`: HTTP for other projects' clients, in front of a server, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import re
import socket
import sys
from collections.abc import Iterator

from client_sdk._api_key import read_api_key
from client_sdk._checks import positive_int
from client_sdk._commands.signals import sigterm_as_ctrl_c
from client_sdk._errors import ClientError, InvalidArgument
from client_sdk._server.listen import Host
from client_sdk._settings import DEFAULT_MODEL, DEFAULT_TIMEOUT, DEFAULT_URL

_DEFAULT_LISTEN = "127.0.0.1:8080"
_ADDRESS = re.compile(r"(?:(?P<host>[^:\[\]]+|\[[^\]]+\]):)?(?P<port>[0-9]{1,5})")
_GRACE = 30  # seconds in which requests that are being answered may end
_BACKLOG = 2048


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gateway` to a command line."""
    parser.add_argument(
        "--triton",
        metavar="URL[,URL...]",
        help=f"of the server, or of several with the same models; default: CLIENT_SDK_URL, or {DEFAULT_URL}",
    )
    parser.add_argument(
        "--listen",
        default=_DEFAULT_LISTEN,
        metavar="[ADDRESS:]PORT",
        help=f"where to listen; default: {_DEFAULT_LISTEN}, this machine alone. 0.0.0.0:8080 opens it to every network "
        "that this machine is on, without password or encryption",
    )
    parser.add_argument(
        "--model",
        help="the family that answers requests which name none; default: CLIENT_SDK_MODEL, or "
        f"{DEFAULT_MODEL}, or the only one of its kind",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT,
        metavar="SECONDS",
        help=f"that an answer may take; default: {DEFAULT_TIMEOUT:g}",
    )
    parser.add_argument("--max-body", type=int, default=32, metavar="MIB", help="of a request; default: 32")
    parser.add_argument("--max-texts", type=int, default=2048, metavar="N", help="of a request; default: 2048")
    parser.add_argument(
        "--max-concurrency", type=int, default=256, metavar="N", help="requests answered at a time; default: 256"
    )
    parser.add_argument("--no-access-log", action="store_true", help="write no line for each request")
    parser.add_argument(
        "--triton-api-key-file",
        metavar="FILE",
        help="holds the key of a restricted server; default: CLIENT_SDK_API_KEY, or none",
    )
    parser.add_argument(
        "--triton-root-certificates", metavar="FILE", help="PEM, the authorities to trust (TLS); default: the system's"
    )
    parser.add_argument("--triton-client-certificate", metavar="FILE", help="PEM, to show to the server (TLS)")
    parser.add_argument("--triton-client-key", metavar="FILE", help="PEM, the certificate's private key")


def run(args: argparse.Namespace) -> int:
    """Answer until Ctrl-C or SIGTERM (0), and what is being answered then to its end.

    Raises:
        ClientError: An option is wrong, or what the gateway is made of is not installed.
        OSError: A file cannot be read, or the port is not free.
    """
    try:
        import uvicorn

        from client_sdk.gateway import GatewaySettings, create_app
    except ImportError as error:
        raise ClientError(f"the gateway needs more ({error}): pip install 'bert-on-triton[gateway]'") from None
    host, port = _address(args.listen)
    settings = GatewaySettings(
        triton=args.triton,
        model=args.model,
        timeout=args.timeout,
        max_body_bytes=positive_int("max-body", args.max_body) << 20,
        max_texts=args.max_texts,
        max_concurrency=args.max_concurrency,
        api_key=None if args.triton_api_key_file is None else read_api_key(args.triton_api_key_file),
        root_certificates=args.triton_root_certificates,
        client_certificate=args.triton_client_certificate,
        client_key=args.triton_client_key,
    )
    config = uvicorn.Config(
        create_app(settings),
        loop="asyncio",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
    )
    with _logged(not args.no_access_log), _listening(host, port) as listener:
        print(_greeting(host, listener.getsockname()[1], settings.of_client(settings.default_model).url), flush=True)
        with sigterm_as_ctrl_c(), contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises once all is answered
            asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
    return 0


def _address(text: str) -> tuple[Host, int]:
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise InvalidArgument(f"listen {text!r} is no address and port, as {_DEFAULT_LISTEN} and 8080 are")
    return Host.resolve((found["host"] or "127.0.0.1").strip("[]")), int(found["port"])


@contextlib.contextmanager
def _listening(host: Host, port: int) -> Iterator[socket.socket]:
    try:
        bound = host.bind(port)
    except OSError as error:
        raise ClientError(f"cannot listen on {host.url_host}:{port}: {error.strerror}") from None
    with bound:
        bound.listen(_BACKLOG)
        yield bound


def _greeting(host: Host, port: int, triton: str) -> str:
    url = f"http://{host.url_host}:{port}"
    lines = [f"gateway to {triton}", f"  HTTP     {url}", f"  OpenAI   {url}/v1"]
    if not host.is_loopback:
        lines.append(
            f"open on {host.address}: whoever reaches this machine can use the models; nothing is asked for, and "
            "nothing is encrypted"
        )
    return "\n".join([*lines, "", "Ctrl-C stops it."])


@contextlib.contextmanager
def _logged(requests: bool) -> Iterator[None]:
    """Lines of requests on standard output, and what goes wrong on standard error."""
    lines, errors = logging.StreamHandler(sys.stdout), logging.StreamHandler()
    errors.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    access = logging.getLogger("client_sdk.gateway.access")
    gateway, uvicorn = logging.getLogger("client_sdk.gateway"), logging.getLogger("uvicorn.error")
    access.setLevel(logging.INFO if requests else logging.CRITICAL)
    access.propagate = False
    access.addHandler(lines)
    gateway.addHandler(errors)
    uvicorn.setLevel(logging.WARNING)
    uvicorn.addHandler(errors)
    try:
        yield
    finally:
        access.removeHandler(lines)
        gateway.removeHandler(errors)
        uvicorn.removeHandler(errors)
        access.setLevel(logging.NOTSET)
        access.propagate = True
