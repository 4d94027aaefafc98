"""Several servers behind one transport: each request goes to the one with the least to do, in turn.

A server that cannot be reached, is busy, lacks the model or has lost a step is passed over for a while; when that
time is over, one request tries it, and if it fails again the next pause is longer. A request that failed in such a
way is sent again by `_retry`, at once if another server is there.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from ._errors import ClientError, ServerBusy, ServerUnreachable
from ._peer import Reach
from ._retry import PASSED_OVER
from ._transport import AsyncTransport, InferRequest, Pending, Query, Reply, Transport

BUSY_PAUSES = 0.1, 2.0
LOST_PAUSES = 1.0, 30.0
"""Seconds for which a server is passed over: first, and at most, doubling in between."""


class _HasPeer(Protocol):
    @property
    def peer(self) -> Reach: ...


T = TypeVar("T", bound=_HasPeer)


class _Member(Generic[T]):
    def __init__(self, transport: T) -> None:
        self.transport = transport
        self.flying = 0  # requests on their way
        self.failures = 0  # so far
        self.pause = 0.0  # seconds; 0 if it did not fail last
        self.resumes_at = 0.0
        self.error: ClientError | None = None


@dataclass(frozen=True)
class Turn(Generic[T]):
    """A request that a server was chosen for."""

    member: _Member[T]
    failures: int  # of the server, when it was chosen: what was sent before a failure says nothing new after it

    @property
    def transport(self) -> T:
        """The way to the server."""
        return self.member.transport


class Pool(Generic[T]):
    """Chooses among servers, and remembers which of them failed. Threads may share it."""

    def __init__(self, transports: Sequence[T], clock: Callable[[], float] = time.monotonic) -> None:
        self._members = [_Member(transport) for transport in transports]
        self._clock = clock
        self._next = 0
        self._lock = threading.Lock()

    @property
    def reached(self) -> bool:
        """Whether any server has answered yet."""
        return any(member.transport.peer.reached for member in self._members)

    @property
    def has_spare(self) -> bool:
        """Whether there is a server that is not passed over."""
        now = self._clock()
        return any(member.resumes_at <= now for member in self._members)

    @property
    def servers(self) -> int:
        """How many there are."""
        return len(self._members)

    @contextmanager
    def turn(self) -> Iterator[T]:
        """The way to the server whose turn it is, for one request, whose outcome is remembered."""
        turn = self.take()
        try:
            yield turn.transport
        except ClientError as error:
            raise self.failed(turn, error) from None
        else:
            self.succeeded(turn)
        finally:
            self.release(turn)

    def take(self) -> Turn[T]:
        """The server whose turn it is; to be given back by `release`."""
        with self._lock:
            now = self._clock()
            in_turn = self._members[self._next :] + self._members[: self._next]
            able = [member for member in in_turn if member.resumes_at <= now]
            if able:
                chosen = min(able, key=lambda member: member.flying)
            else:
                chosen = min(in_turn, key=lambda member: member.resumes_at)
            if chosen.pause:
                chosen.resumes_at = now + chosen.pause  # the others wait for what this request finds
            chosen.flying += 1
            self._next = (self._members.index(chosen) + 1) % len(self._members)
            return Turn(chosen, chosen.failures)

    def release(self, turn: Turn[T]) -> None:
        """The request is over, however it ended."""
        with self._lock:
            turn.member.flying -= 1

    def succeeded(self, turn: Turn[T]) -> None:
        """The server works."""
        member = turn.member
        if member.pause:
            with self._lock:
                if turn.failures == member.failures:
                    member.pause = member.resumes_at = 0.0
                    member.error = None

    def failed(self, turn: Turn[T], error: ClientError) -> ClientError:
        """Remember the failure; returns what to raise, which names all servers if none can be reached."""
        if not isinstance(error, PASSED_OVER):
            return error
        member = turn.member
        first, longest = BUSY_PAUSES if isinstance(error, ServerBusy) else LOST_PAUSES
        with self._lock:
            if turn.failures == member.failures:
                member.failures += 1
                member.pause = min(longest, 2 * member.pause or first)
                member.resumes_at = self._clock() + member.pause
                member.error = error
            errors = [other.error for other in self._members]
        if all(isinstance(other, ServerUnreachable) for other in errors):
            return ServerUnreachable("; ".join(map(str, errors)))
        return error


class PoolTransport:
    """Several blocking transports as one; threads may share it."""

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._transports = transports
        self.peer = Pool(transports)

    def infer(self, request: InferRequest, timeout: float) -> Reply:
        """Send to the server whose turn it is, and wait."""
        with self.peer.turn() as transport:
            return transport.infer(request, timeout)

    def start(self, request: InferRequest, timeout: float) -> Pending:
        """Send to the server whose turn it is, without waiting."""
        turn = self.peer.take()
        try:
            pending = turn.transport.start(request, timeout)
        except BaseException:
            self.peer.release(turn)
            raise
        return _PendingTurn(pending, self.peer, turn)

    def query(self, query: Query, timeout: float) -> dict[str, Any]:
        """Ask the server whose turn it is, and wait."""
        with self.peer.turn() as transport:
            return transport.query(query, timeout)

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
        except ClientError as error:
            raise self._pool.failed(self._turn, error) from None
        self._pool.succeeded(self._turn)
        return reply

    def cancel(self) -> object:
        return self._pending.cancel()

    def add_done_callback(self, callback: Callable[[Any], object]) -> object:
        return self._pending.add_done_callback(lambda _: callback(self))


class AsyncPoolTransport:
    """Several asynchronous transports as one."""

    def __init__(self, transports: Sequence[AsyncTransport]) -> None:
        self._transports = transports
        self.peer = Pool(transports)

    async def infer(self, request: InferRequest, timeout: float) -> Reply:
        """Send to the server whose turn it is, and wait."""
        with self.peer.turn() as transport:
            return await transport.infer(request, timeout)

    async def query(self, query: Query, timeout: float) -> dict[str, Any]:
        """Ask the server whose turn it is, and wait."""
        with self.peer.turn() as transport:
            return await transport.query(query, timeout)

    async def close(self) -> None:
        """Drop the connections."""
        await asyncio.gather(*(transport.close() for transport in self._transports))
