"""Triton's HTTP protocol, asynchronous and blocking, through aiohttp.

tritonclient's blocking HTTP client can neither be shared by threads nor bound a single call, and its asynchronous one
follows redirects, which would carry texts and keys to another host. The blocking transport runs the asynchronous one
on a background event loop.
"""

from __future__ import annotations

import asyncio
import io
import queue
import ssl
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from typing import Any, TypeVar

import aiohttp

from client_sdk._errors import ClientError
from client_sdk._transport.base import InferRequest, Query, Reply, trace_headers
from client_sdk._transport.connection import Connection
from client_sdk._transport.http.loop_thread import in_loop_thread, submit
from client_sdk._transport.http.messages import infer_body, query_path, read_error, read_json, read_reply
from client_sdk._transport.outcome import ended
from client_sdk._transport.peer import Peer
from client_sdk._transport.retry import GRACE
from client_sdk._transport.unbroken import get

T = TypeVar("T")

_LARGE = 1 << 20  # bytes of a body; a larger one aiohttp sends piece by piece if it is a file, or it warns of it
CONNECT_TIMEOUT = 5.0  # seconds; of a name's addresses, the next is tried beside one that does not answer soon

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "UNAVAILABLE",  # of a proxy that limits how much is asked; gRPC says the same of it
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",  # 502 and 504 are a gateway's words for a server that is away
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}


_REDIRECTS = (301, 302, 303, 307, 308)


class AsyncHttpTransport:
    """Asynchronous HTTP; belongs to the event loop of its first call."""

    def __init__(self, connection: Connection) -> None:
        self.peer = Peer(connection.address, connection.has_api_key)
        address = connection.address
        self._root = f"{'https' if address.uses_tls else 'http'}://{address.authority}{address.path}/v2"
        self._headers = dict(connection.headers)
        self._ssl = _ssl_context(connection)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: AsyncGenerator[None, None] | None = None
        self._closed = False

    async def infer(self, request: InferRequest, timeout: float) -> Reply:
        """Send and wait."""
        request = self.peer.addressed(request)
        path, headers, body = infer_body(request)
        status, answered, content = await self._call("POST", path, timeout, {**trace_headers.get(), **headers}, body)
        if status != 200:
            raise self._answered(status, content)
        try:
            arrays, version = read_reply(answered, content)
        except (KeyError, TypeError, ValueError) as error:
            raise self.peer.garbled(f"its reply cannot be read ({error})") from None
        return Reply(arrays, version, request.identity)

    async def query(self, query: Query, timeout: float) -> dict[str, Any]:
        """Ask and wait."""
        with self.peer.asking(query) as noted:
            status, _, content = await self._call("GET", query_path(query), timeout)
            if query.kind == "ready":
                return {"ready": status == 200}
            if status != 200:
                raise self._answered(status, content)
            try:
                return noted(read_json(content))
            except ValueError as error:
                raise self.peer.garbled(str(error)) from None

    async def close(self) -> None:
        """Drop the connections."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def drop(self) -> None:
        """Drop the connections, without waiting."""
        self._closed = True
        if self._end is None or self._loop is None:
            return
        if self._loop.is_running() and not _is_running_here(self._loop):
            self._loop.call_soon_threadsafe(_finish, self._end)
        else:
            _finish(self._end)

    async def _call(
        self, method: str, path: str, timeout: float, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and content of the answer."""
        exchange = asyncio.ensure_future(self._exchange(method, path, headers or {}, body))
        if not await ended(exchange, timeout):
            raise self.peer.too_late()
        try:
            return exchange.result()
        except aiohttp.ServerTimeoutError:  # before asyncio's TimeoutError, which it also is
            raise self.peer.unreachable(f"no connection within {CONNECT_TIMEOUT:g} s") from None
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as error:
            raise self._broken(error) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self.peer.unreachable(str(error) or type(error).__name__) from None
        except RuntimeError as error:
            if not self._closed:
                raise
            raise ClientError(f"the client was closed while in use ({error})") from None

    async def _exchange(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        if self._closed:
            raise RuntimeError("it is closed")
        if self._session is None:
            self._loop = asyncio.get_running_loop()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._ssl or True),
                headers={"Accept-Encoding": "identity"},  # else Triton compresses vectors, which gains next to nothing
                # Each call has a timeout of its own.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            )
            self._end = _closing_with_its_loop(self._session)
            await anext(self._end)
        async with self._session.request(
            method,
            f"{self._root}/{path}" if path else self._root,
            data=io.BytesIO(body) if body is not None and len(body) > _LARGE else body,
            headers={**self._headers, **headers},
            allow_redirects=False,
        ) as response:
            if response.status in _REDIRECTS:
                raise self.peer.redirected(response.status, response.headers.get("Location", ""))
            content = await response.read()
            self.peer.reached = True
            return response.status, response.headers, content

    def _answered(self, status: int, content: bytes) -> ClientError:
        message = read_error(content)
        known = _STATUS.get(status)
        if message is None:  # a body that is not Triton's
            text = content.decode(errors="replace")
            if known != "UNAVAILABLE":
                return self.peer.garbled(f"HTTP status {status}: {_first_line(text)}")
            message = f"HTTP status {status}: {_first_line(text)}"
        return self.peer.answered(known or f"HTTP status {status}", message)

    def _broken(self, error: aiohttp.ClientError) -> ClientError:
        if isinstance(error, aiohttp.ClientPayloadError):
            return self.peer.unreachable(str(error))
        if self.peer.reached:
            return self.peer.garbled(str(error))
        return self.peer.unreachable(f"what answers there does not speak HTTP: {error}")


class HttpTransport:
    """Blocking HTTP; threads may share it."""

    def __init__(self, connection: Connection) -> None:
        self._transport = AsyncHttpTransport(connection)
        self.peer = self._transport.peer

    def infer(self, request: InferRequest, timeout: float) -> Reply:
        """Send and wait."""
        return self._wait(self.start(request, timeout), timeout)

    def start(self, request: InferRequest, timeout: float) -> Future[Reply]:
        """Send without waiting."""
        return submit(lambda: self._transport.infer(request, timeout))

    def query(self, query: Query, timeout: float) -> dict[str, Any]:
        """Ask and wait."""
        return self._wait(submit(lambda: self._transport.query(query, timeout)), timeout)

    def close(self) -> None:
        """Drop the connections, within a second; also called by the garbage collector, in any thread."""
        closing = submit(self._transport.close)
        if not in_loop_thread():
            wait([closing], timeout=1.0)

    def _wait(self, future: Future[T], timeout: float) -> T:
        try:
            done: queue.SimpleQueue[Future[T]] = queue.SimpleQueue()
            future.add_done_callback(done.put)
            # The call ends itself in time; the grace is for a machine that is too busy to run the loop.
            get(done, timeout + GRACE)
        except queue.Empty:
            raise self.peer.too_late() from None
        finally:
            future.cancel()  # what Ctrl-C interrupts is given up; a future that is done stays as it is
        try:
            return future.result()
        except CancelledError:
            raise ClientError("the client was closed while in use") from None


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def _closing_with_its_loop(session: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    """Begun, it closes the session at its end, and a loop that ends (as by asyncio.run) ends what was begun in it."""
    try:
        yield
    finally:
        if session.connector is not None:
            # Its first step closes the sockets; only the end of that is what it would be awaited for.
            closing = session.connector.close().__await__()
            with suppress(StopIteration):
                next(closing)
            with suppress(AttributeError):  # in older releases of aiohttp it is no coroutine
                closing.close()


def _finish(generator: AsyncGenerator[None, None]) -> None:
    """End what was begun, and awaits nothing at its end."""
    with suppress(StopIteration):
        generator.aclose().__await__().__next__()


def _ssl_context(connection: Connection) -> ssl.SSLContext | None:
    if not connection.address.uses_tls:
        return None
    tls = connection.tls
    context = ssl.create_default_context(cafile=str(tls.root_certificates) if tls.root_certificates else None)
    if tls.client_certificate:
        context.load_cert_chain(tls.client_certificate, tls.client_key)
    return context


def _first_line(body: str) -> str:
    return (body.strip().splitlines() or [""])[0][:200]
