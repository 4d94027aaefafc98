"""`python -m client_sdk gateway`: HTTP for other projects' clients, in front of a server, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import re
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from client_sdk._api_key import read_api_key
from client_sdk._checks import LARGEST_PORT, positive_int
from client_sdk._commands.signals import sigterm_as_ctrl_c
from client_sdk._errors import ClientError, InvalidArgument
from client_sdk._server.listen import Host
from client_sdk._settings import DEFAULT_MODEL, DEFAULT_TIMEOUT, DEFAULT_URL

if TYPE_CHECKING:
    from client_sdk.gateway.keys import Keys

logger = logging.getLogger("client_sdk.gateway")

_DEFAULT_LISTEN = "127.0.0.1:8080"
_ADDRESS = re.compile(r"(?:(?P<host>[^:\[\]]+|\[[^\]]+\]):)?(?P<port>[0-9]{1,5})")
_GRACE = 30  # seconds in which requests that are being answered may end
_BACKLOG = 2048
_IDLE = 75  # seconds a connection waits for the next request: longer than proxies use theirs
_UNREAD = 60  # seconds in which a caller may take nothing of what is sent to it


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
    parser.add_argument(
        "--keys",
        metavar="FILE",
        help="of the names and key hashes of those who may ask, a line each: NAME SHA256 [TEXTS_A_SECOND]; read again "
        "on SIGHUP. Default: everybody may",
    )
    parser.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a site whose pages may ask, such as https://search.example.com, or * for all; may be given again. "
        "Default: none",
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="PEM: speak HTTPS, with this certificate")
    parser.add_argument("--tls-key", metavar="FILE", help="PEM: the certificate's key")
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
        from client_sdk.gateway.connections import BoundedHttp
    except ImportError as error:
        raise ClientError(f"the gateway needs more ({error}): pip install 'bert-on-triton[gateway]'") from None
    host, port = _address(args.listen)
    if (args.tls_cert is None) != (args.tls_key is None):
        raise InvalidArgument("--tls-cert and --tls-key must be given together")
    settings = GatewaySettings(
        triton=args.triton,
        keys=args.keys,
        cors=args.cors,
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
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=BoundedHttp,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=_IDLE,
        ssl_certfile=args.tls_cert,
        ssl_keyfile=args.tls_key,
    )
    try:
        config.load()
    except OSError as error:  # of which ssl.SSLError is one, without the name of a file
        raise ClientError(f"{args.tls_cert}, {args.tls_key}: no certificate and its key: {error.strerror}") from None
    with _logged(not args.no_access_log), listening(host, port) as listener:
        url = f"{'http' if args.tls_cert is None else 'https'}://{host.url_host}:{listener.getsockname()[1]}"
        print(_greeting(url, settings.of_client(settings.default_model).url, host, args), flush=True)
        with (
            _keys_read_again(app.state.keys),
            sigterm_as_ctrl_c(),
            contextlib.suppress(KeyboardInterrupt),
        ):  # which uvicorn raises once all is answered
            _run(uvicorn.Server(config).serve(sockets=[listener]))
    return 0


def _run(serving: Coroutine[Any, Any, None]) -> None:
    """In uvloop, where there is one: a lone request takes a twelfth less of a processor."""
    try:
        import uvloop
    except ImportError:  # as on Windows
        asyncio.run(serving)
    else:
        uvloop.run(serving)


def _address(text: str) -> tuple[Host, int]:
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > LARGEST_PORT:
        raise InvalidArgument(f"listen {text!r} is no address and port, as {_DEFAULT_LISTEN} and 8080 are")
    return Host.resolve((found["host"] or "127.0.0.1").strip("[]")), int(found["port"])


@contextlib.contextmanager
def listening(host: Host, port: int) -> Iterator[socket.socket]:
    """A socket that takes connections; raises ClientError for a port that is not free."""
    try:
        bound = host.bind(port)
    except OSError as error:
        raise ClientError(f"cannot listen on {host.url_host}:{port}: {error.strerror}") from None
    with bound:
        # Its connections inherit it; without it the body of an answer waits 40 ms for the headers to be acknowledged.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Nor is an answer kept for ever for a caller that takes nothing of it, which uvicorn waits for without end.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _UNREAD)
        bound.listen(_BACKLOG)
        yield bound


def _greeting(url: str, triton: str, host: Host, args: argparse.Namespace) -> str:
    lines = [f"gateway to {triton}", f"  HTTP     {url}", f"  OpenAI   {url}/v1", f"  page     {url}/"]
    if not host.is_loopback:
        who = "whoever reaches this machine can use the models; nothing is asked for"
        asked = "clients must send a key, whoever reaches this machine can see the page and metrics"
        shown = "everything is encrypted" if args.tls_cert else "nothing is encrypted"
        lines.append(f"open on {host.address}: {asked if args.keys else who}, and {shown}")
    return "\n".join([*lines, "", "Ctrl-C stops it."])


@contextlib.contextmanager
def _keys_read_again(keys: Keys | None) -> Iterator[None]:
    """On SIGHUP, within it; a file that is not right changes nothing."""

    def read(number: int, frame: FrameType | None) -> None:
        if keys is None:
            return
        try:
            logger.warning("%d keys have been read", keys.reload())
        except (ClientError, OSError) as error:
            logger.error("the keys stay as they were: %s", error)

    before = signal.signal(signal.SIGHUP, read)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


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
