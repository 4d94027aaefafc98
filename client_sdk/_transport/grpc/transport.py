"""Triton's gRPC protocol, blocking and asynchronous, through tritonclient's generated stub.

The stub is used directly: tritonclient's wrapper adds a third to the time of a short call, and its one class
of exception hides what gRPC knows about the failure.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

# Its C core would write to the user's standard error what is raised, or retried, anyway. It reads this when imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from client_sdk._errors import ClientError
from client_sdk._transport.address import Address
from client_sdk._transport.base import InferRequest, Query, Reply, trace_headers
from client_sdk._transport.connection import Connection
from client_sdk._transport.grpc.messages import infer_message, query_message, read_answer, read_reply
from client_sdk._transport.peer import Peer
from client_sdk._transport.unbroken import Unbroken

CONNECT_TIMEOUT = 5.0  # seconds for TCP, TLS and HTTP/2 together

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT * 1000)),  # despite its name, the connect timeout
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),  # not 30 s: a server that has moved has another address
    # A connection that a firewall dropped silently is noticed within a call. Triton takes more than two pings
    # without data as abuse, and gRPC sends no more than two.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # or it is a minute, after which a call has failed
    ("grpc.enable_http_proxy", 0),  # as over HTTP: what the URL says is where we connect
    ("grpc.use_local_subchannel_pool", 1),  # clients do not inherit each other's back-off
]

# UNAVAILABLE is what gRPC itself says when there is no connection, and what a busy server says. Only the text
# tells them apart.
_NO_CONNECTION = re.compile(
    r"failed to connect|errors? resolving|DNS resolution|Socket closed|Stream removed|handshake|Broken pipe"
    r"|Connection (?:reset|refused|aborted)|GOAWAY|keepalive|ping timeout|recvmsg|sendmsg",
    re.IGNORECASE,
)


class GrpcTransport:
    """Blocking gRPC; threads may share it."""

    def __init__(self, connection: Connection) -> None:
        self.peer = Peer(connection.address, connection.has_api_key)
        self._metadata = _metadata(connection)
        target, credentials = connection.address.authority, _credentials(connection)
        options = _channel_options(connection.address)
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options=options)
        else:
            self._channel = grpc.secure_channel(target, credentials, options=options)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._unbroken = Unbroken("client_sdk-grpc")

    def infer(self, request: InferRequest, timeout: float) -> Reply:
        """Send and wait."""
        request = self.peer.addressed(request)
        reply = self._call(self._stub.ModelInfer, infer_message(request), timeout, trace_headers.get())
        return Reply(read_reply(reply), reply.model_version, request.identity)

    def start(self, request: InferRequest, timeout: float) -> _PendingCall:
        """Send without waiting."""
        request = self.peer.addressed(request)
        metadata = [*self._metadata, *trace_headers.get().items()]
        begin = partial(self._stub.ModelInfer.future, infer_message(request), timeout=timeout, metadata=metadata)
        return _PendingCall(begin, self._unbroken, self.peer, request.identity)

    def query(self, query: Query, timeout: float) -> dict[str, Any]:
        """Ask and wait."""
        procedure, message = query_message(query)
        with self.peer.asking(query) as noted:
            return noted(read_answer(query, self._call(getattr(self._stub, procedure), message, timeout)))

    def close(self) -> None:
        """Drop the connection, within a second; also called by the garbage collector, in any thread."""
        self._unbroken.wait_for(self._channel.close, seconds=1.0)

    def _call(self, procedure: Any, message: Any, timeout: float, headers: Mapping[str, str] | None = None) -> Any:
        try:
            reply = procedure(message, timeout=timeout, metadata=[*self._metadata, *(headers or {}).items()])
        except grpc.RpcError as error:
            raise _translated(error, self.peer) from None
        except ValueError as error:
            raise _closed(error) from None
        self.peer.reached = True
        return reply


class _PendingCall:
    """A request on its way; its call is begun, and given up, in a thread that is not interrupted."""

    def __init__(self, begin: Callable[[], Any], unbroken: Unbroken, peer: Peer, identity: str | None) -> None:
        self._call: Any = None
        self._unbroken = unbroken
        self._peer = peer
        self._identity = identity
        self._flying = threading.Lock()
        self._flying.acquire()
        unbroken.do(partial(self._begin, begin))

    def _begin(self, begin: Callable[[], Any]) -> None:
        try:
            self._call = begin()
        except Exception as error:
            self._call = Future()
            self._call.set_exception(_closed(error) if isinstance(error, ValueError) else error)
        self._call.add_done_callback(lambda _: self._flying.release())

    def result(self) -> Reply:
        with self._flying:
            pass
        try:
            reply = self._call.result()
        except grpc.RpcError as error:
            raise _translated(error, self._peer) from None
        except grpc.FutureCancelledError:
            raise _closed("the request was cancelled") from None
        self._peer.reached = True
        return Reply(read_reply(reply), reply.model_version, self._identity)

    def cancel(self) -> None:
        self._unbroken.do(lambda: self._call.cancel())

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._unbroken.do(lambda: self._call.add_done_callback(lambda _: callback(self)))


class AsyncGrpcTransport:
    """Asynchronous gRPC; belongs to the event loop that is running when it is made."""

    def __init__(self, connection: Connection) -> None:
        self.peer = Peer(connection.address, connection.has_api_key)
        self._metadata = _metadata(connection)
        target, credentials = connection.address.authority, _credentials(connection)
        options = _channel_options(connection.address)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, options=options)
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, options=options)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._is_closed = False

    async def infer(self, request: InferRequest, timeout: float) -> Reply:
        """Send and wait."""
        request = self.peer.addressed(request)
        reply = await self._call(self._stub.ModelInfer, infer_message(request), timeout, trace_headers.get())
        return Reply(read_reply(reply), reply.model_version, request.identity)

    async def query(self, query: Query, timeout: float) -> dict[str, Any]:
        """Ask and wait."""
        procedure, message = query_message(query)
        with self.peer.asking(query) as noted:
            return noted(read_answer(query, await self._call(getattr(self._stub, procedure), message, timeout)))

    async def close(self) -> None:
        """Drop the connection."""
        self._is_closed = True
        await self._channel.close()

    def drop(self) -> None:
        """A channel that is collected closes itself."""

    async def _call(
        self, procedure: Any, message: Any, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Any:
        try:
            reply = await procedure(message, timeout=timeout, metadata=[*self._metadata, *(headers or {}).items()])
        except grpc.RpcError as error:
            raise _translated(error, self.peer) from None
        except grpc.aio.UsageError as error:
            raise _closed(error) from None
        except asyncio.CancelledError:  # of the caller's task, or of what was on its way when the channel was closed
            if not self._is_closed or _is_cancelled():
                raise
            raise _closed("the request was cancelled") from None
        self.peer.reached = True
        return reply


def _is_cancelled() -> bool:
    """Whether somebody has cancelled this task, which Python 3.10 does not tell."""
    task: Any = asyncio.current_task()
    return not hasattr(task, "cancelling") or task.cancelling() > 0


def _channel_options(address: Address) -> list[tuple[str, Any]]:
    """A name that stands for several addresses is served by all of them in turn, and not by the first alone."""
    if address.host == "localhost" or _is_ip(address.host):
        return _CHANNEL_OPTIONS
    return [*_CHANNEL_OPTIONS, ("grpc.lb_policy_name", "round_robin")]


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _translated(error: Any, peer: Peer) -> ClientError:
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return peer.too_late()
    if code is grpc.StatusCode.CANCELLED:
        return _closed(details)
    if code is grpc.StatusCode.UNAVAILABLE and _NO_CONNECTION.search(details):
        return peer.unreachable(details)
    if code is grpc.StatusCode.UNIMPLEMENTED and "http2 header" in details:
        return peer.garbled(details)
    return peer.answered(code.name, details)


def _closed(reason: object) -> ClientError:
    return ClientError(f"the client was closed while in use ({reason})")


def _metadata(connection: Connection) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in connection.headers.items()]


def _credentials(connection: Connection) -> Any:
    if not connection.address.uses_tls:
        return None
    tls = connection.tls
    return grpc.ssl_channel_credentials(
        root_certificates=tls.root_certificates.read_bytes() if tls.root_certificates else None,
        private_key=tls.client_key.read_bytes() if tls.client_key else None,
        certificate_chain=tls.client_certificate.read_bytes() if tls.client_certificate else None,
    )
