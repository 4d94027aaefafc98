"""Triton's HTTP protocol, asynchronous and blocking, through tritonclient's asyncio client.

tritonclient's blocking HTTP client can neither be shared by threads nor bound a single call, so the blocking
transport runs the asynchronous one on a background event loop.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from typing import Any, TypeVar

import aiohttp
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from ._connection import Connection
from ._errors import ClientError
from ._loop_thread import in_loop_thread, submit
from ._peer import Peer
from ._retry import GRACE
from ._transport import InferRequest, Query, Reply, bytes_array

T = TypeVar("T")

CONNECT_TIMEOUT = 5.0  # seconds, for the first connection

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",  # 502 and 504 are a gateway's words for a server that is away
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}


class AsyncHttpTransport:
    """Asynchronous HTTP; belongs to the event loop of its first call."""

    def __init__(self, connection: Connection) -> None:
        self.peer = Peer(connection.address, connection.has_api_key)
        self._headers = dict(connection.headers)
        self._ssl = _ssl_context(connection)
        self._client: InferenceServerClient | None = None
        self._closed = False
        self._is_there = False  # as far as the last attempt found

    async def infer(self, request: InferRequest, timeout: float) -> Reply:
        """Send and wait."""
        rows = request.text_rows()
        shape = [len(rows), len(rows[0])]
        text = InferInput("TEXT", shape, "BYTES")
        text.set_data_from_numpy(bytes_array([string for row in rows for string in row], shape))

        async def send(client: InferenceServerClient) -> Reply:
            reply = await client.infer(
                request.model,
                [text],
                model_version=request.version,
                outputs=[InferRequestedOutput(name) for name in request.outputs],
                headers=dict(self._headers),
                parameters=dict(request.parameters),
            )
            arrays = {name: reply.as_numpy(name) for name in request.outputs}
            return Reply(arrays, str(reply.get_response().get("model_version", "")))

        return await self._call(send, timeout)

    async def query(self, query: Query, timeout: float) -> dict[str, Any]:
        """Ask and wait."""

        async def send(client: InferenceServerClient) -> dict[str, Any]:
            headers = dict(self._headers)
            if query.kind == "config":
                answer = await client.get_model_config(query.model, headers=headers)
            elif query.kind == "metadata":
                answer = await client.get_model_metadata(query.model, headers=headers)
            elif query.kind == "ready":
                answer = {"ready": await client.is_model_ready(query.model, headers=headers)}
            elif query.kind == "statistics":
                answer = await client.get_inference_statistics(query.model, headers=headers)
            else:
                answer = await client.get_server_metadata(headers=headers)
            return answer  # type: ignore[no-any-return]

        return await self._call(send, timeout)

    async def close(self) -> None:
        """Drop the connections."""
        self._closed = True
        if self._client is not None:
            await self._client.close()

    async def _call(self, send: Callable[[InferenceServerClient], Awaitable[T]], timeout: float) -> T:
        try:
            reply = await asyncio.wait_for(self._connected(send), timeout)
        except asyncio.TimeoutError:
            raise self.peer.too_late() from None
        except InferenceServerException as error:
            raise self._answered(error) from None
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as error:
            raise self._broken(error) from None
        except (aiohttp.ClientError, OSError) as error:
            self._is_there = False
            raise self.peer.unreachable(str(error) or type(error).__name__) from None
        except RuntimeError as error:
            if not self._closed:
                raise
            raise ClientError(f"the client was closed while in use ({error})") from None
        except ValueError as error:  # a body that is not JSON
            raise self.peer.garbled(str(error)) from None
        self.peer.reached = True
        return reply

    async def _connected(self, send: Callable[[InferenceServerClient], Awaitable[T]]) -> T:
        if self._closed:
            raise RuntimeError("it is closed")
        address = self.peer.address
        if not self._is_there:
            await _probe(address.host, address.port)
            self._is_there = True
        if self._client is None:
            self._client = InferenceServerClient(
                address.authority + address.path,
                conn_timeout=None,  # each call has a timeout of its own
                ssl=address.uses_tls,
                ssl_context=self._ssl,
            )
        return await send(self._client)

    def _answered(self, error: InferenceServerException) -> ClientError:
        status, message = error.status(), error.message()
        if status is None:
            return self.peer.garbled(message)
        known = _STATUS.get(int(status))
        if error.debug_details() is not None and known != "UNAVAILABLE":  # a body that is not Triton's
            return self.peer.garbled(f"HTTP status {status}: {_first_line(error.debug_details())}")
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
        return submit(self._transport.infer(request, timeout))

    def query(self, query: Query, timeout: float) -> dict[str, Any]:
        """Ask and wait."""
        return self._wait(submit(self._transport.query(query, timeout)), timeout)

    def close(self) -> None:
        """Drop the connections, within a second; also called by the garbage collector, in any thread."""
        closing = submit(self._transport.close())
        if not in_loop_thread():
            wait([closing], timeout=1.0)

    def _wait(self, future: Future[T], timeout: float) -> T:
        try:
            # The call ends itself in time; the grace is for a machine that is too busy to run the loop.
            done, _ = wait([future], timeout + GRACE)
        finally:
            future.cancel()  # what Ctrl-C interrupts is given up; a future that is done stays as it is
        if not done:
            raise self.peer.too_late()
        try:
            return future.result()
        except CancelledError:
            raise ClientError("the client was closed while in use") from None


async def _probe(host: str, port: int) -> None:
    """Raise OSError soon if there is no way to the server: tritonclient would wait for the whole deadline."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_TIMEOUT)
    except asyncio.TimeoutError:
        raise ConnectionError(f"no connection within {CONNECT_TIMEOUT:g} s") from None
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


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
