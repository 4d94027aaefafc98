"""Several servers behind one transport, see `_transport.pool.members`."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

from client_sdk._errors import ClientError, DeadlineExceeded
from client_sdk._transport.base import AsyncTransport, InferRequest, Pending, Query, Reply, Transport
from client_sdk._transport.outcome import ended
from client_sdk._transport.pool.members import Pool, Turn
from client_sdk._transport.pool.watch import AsyncWatch, Watch
from client_sdk._transport.retry import GRACE, Silent
from client_sdk._transport.unbroken import get


class PoolTransport:
    """Several blocking transports as one; threads may share it."""

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._transports = transports
        self._pool = Pool(transports)
        self._watch = Watch(self._pool)

    @property
    def peer(self) -> Pool[Transport]:
        """What is known of the servers."""
        return self._pool

    def infer(self, request: InferRequest, timeout: float) -> Reply:
        """Send to the server whose turn it is, and wait."""
        done: queue.SimpleQueue[Pending] = queue.SimpleQueue()  # which Ctrl-C leaves whole
        pending = self.start(request, timeout)
        pending.add_done_callback(done.put)
        try:
            get(done, timeout + GRACE)
        except queue.Empty:
            raise DeadlineExceeded(f"{self._pool.name} did not answer in time") from None
        finally:
            pending.cancel()  # what Ctrl-C interrupts is given up; what is done stays as it is
        return pending.result()

    def start(self, request: InferRequest, timeout: float) -> Pending:
        """Send to the server whose turn it is, without waiting."""
        turn = self._pool.take(request, timeout)
        try:
            pending = turn.transport.start(request, timeout)
        except BaseException:
            self._pool.release(turn)
            raise
        turn.cancel = pending.cancel
        self._watch.begin()
        return _PendingTurn(pending, self._pool, turn)

    def query(self, query: Query, timeout: float) -> dict[str, Any]:
        """Ask the server whose turn it is, and wait."""
        seconds = self._pool.query_seconds(timeout)
        with self._pool.turn(query) as transport:
            try:
                return transport.query(query, seconds)
            except DeadlineExceeded as error:
                raise _expired(error, seconds < timeout) from None

    def close(self) -> None:
        """Drop the connections."""
        for transport in self._transports:
            transport.close()


class _PendingTurn:
    def __init__(self, pending: Pending, pool: Pool[Transport], turn: Turn[Transport]) -> None:
        self._pending = pending
        self._pool = pool
        self._turn = turn
        pending.add_done_callback(lambda _: pool.release(turn))

    def result(self) -> Reply:
        try:
            reply = self._pending.result()
        except (ClientError, CancelledError) as error:
            failure = self._turn.silence() if self._turn.given_up else error
            if isinstance(failure, ClientError):
                raise self._pool.failed(self._turn, failure) from None
            raise
        self._pool.succeeded(self._turn)
        return reply._replace(server=self._turn.transport.peer.name)

    def cancel(self) -> object:
        return self._pending.cancel()

    def add_done_callback(self, callback: Callable[[Any], object]) -> object:
        return self._pending.add_done_callback(lambda _: callback(self))


class AsyncPoolTransport:
    """Several asynchronous transports as one."""

    def __init__(self, transports: Sequence[AsyncTransport]) -> None:
        self._transports = transports
        self._pool = Pool(transports)
        self._watch = AsyncWatch(self._pool)

    @property
    def peer(self) -> Pool[AsyncTransport]:
        """What is known of the servers."""
        return self._pool

    async def infer(self, request: InferRequest, timeout: float) -> Reply:
        """Send to the server whose turn it is, and wait."""
        turn = self._pool.take(request, timeout)
        sent = asyncio.ensure_future(turn.transport.infer(request, timeout))
        turn.cancel = sent.cancel
        self._watch.begin()
        try:
            await ended(sent)
            if turn.given_up and sent.cancelled():
                raise turn.silence()
            reply = sent.result()
        except ClientError as error:
            raise self._pool.failed(turn, error) from None
        finally:
            self._pool.release(turn)
        self._pool.succeeded(turn)
        return reply._replace(server=turn.transport.peer.name)

    async def query(self, query: Query, timeout: float) -> dict[str, Any]:
        """Ask the server whose turn it is, and wait."""
        seconds = self._pool.query_seconds(timeout)
        with self._pool.turn(query) as transport:
            try:
                return await transport.query(query, seconds)
            except DeadlineExceeded as error:
                raise _expired(error, seconds < timeout) from None

    async def close(self) -> None:
        """Drop the connections."""
        self._watch.end()
        await asyncio.gather(*(transport.close() for transport in self._transports))

    def drop(self) -> None:
        """Drop the connections, without waiting; the watch ends by itself."""
        for transport in self._transports:
            transport.drop()


def _expired(error: DeadlineExceeded, there_is_time: bool) -> DeadlineExceeded:
    return Silent(str(error)) if there_is_time else error
