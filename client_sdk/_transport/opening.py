"""Transports to one address or several, by the protocol of their scheme."""

from __future__ import annotations

from collections.abc import Sequence

from client_sdk._transport.base import AsyncTransport, Transport
from client_sdk._transport.connection import Connection
from client_sdk._transport.pool.transport import AsyncPoolTransport, PoolTransport


def open_transport(connections: Sequence[Connection]) -> Transport:
    """The blocking transport to the addresses; only their protocol's libraries are imported."""
    if len(connections) > 1:
        return PoolTransport([_open(connection) for connection in connections])
    return _open(connections[0])


def open_async_transport(connections: Sequence[Connection]) -> AsyncTransport:
    """The asynchronous transport to the addresses; to be called in the event loop that uses it."""
    if len(connections) > 1:
        return AsyncPoolTransport([_open_async(connection) for connection in connections])
    return _open_async(connections[0])


def _open(connection: Connection) -> Transport:
    connection.tls.check()
    if connection.address.uses_grpc:
        from client_sdk._transport.grpc.transport import GrpcTransport

        return GrpcTransport(connection)
    from client_sdk._transport.http.transport import HttpTransport

    return HttpTransport(connection)


def _open_async(connection: Connection) -> AsyncTransport:
    connection.tls.check()
    if connection.address.uses_grpc:
        from client_sdk._transport.grpc.transport import AsyncGrpcTransport

        return AsyncGrpcTransport(connection)
    from client_sdk._transport.http.transport import AsyncHttpTransport

    return AsyncHttpTransport(connection)
