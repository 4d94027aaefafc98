"""Several servers: each request goes to the one with the least to do, in turn.

A server that cannot be reached, is busy, lacks the model or has lost a step is passed over for a while; when that
time is over, one request tries it, and if it fails again the next pause is longer. A request that failed in such a
way is sent again by `_transport.retry`, at once if another server is there.

A server that is silent while requests wait for it (its machine hangs, or it is stopped) is asked whether it lives,
and passed over if it does not answer that either: what waited there goes to another. It is asked again after each
pause, and no request goes there before it has answered. A request for a model goes only to servers that may have
that very model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from client_sdk._errors import (
    ClientError,
    DeadlineExceeded,
    InvalidArgument,
    ServerBusy,
    ServerUnreachable,
    VersionChanged,
)
from client_sdk._transport.base import InferRequest, Query, Reach
from client_sdk._transport.retry import PASSED_OVER, Silent

BUSY_PAUSES = 0.1, 2.0
LOST_PAUSES = 1.0, 30.0
"""Seconds for which a server is passed over: first, and at most, doubling in between."""

SILENCE = 1.0
"""Seconds without any answer after which a server is asked whether it lives. If it does, its requests wait on."""

QUERY_PATIENCE = 2.0
"""Seconds for the answer to a query, which costs a server nothing, while there is another server."""


class _HasPeer(Protocol):
    @property
    def peer(self) -> Reach: ...


T = TypeVar("T", bound=_HasPeer)


class Member(Generic[T]):
    """One of the servers, and what became of its requests."""

    def __init__(self, transport: T) -> None:
        self.transport = transport
        self.turns: set[Turn[T]] = set()  # requests on their way
        self.failures = 0  # so far
        self.pause = 0.0  # seconds; 0 if it did not fail last
        self.resumes_at = 0.0
        # Why, if that was its last failure. Not the error itself, whose traceback holds all that led to it.
        self.unreachable: str | None = None
        self.answered_at = 0.0
        self.is_silent = False  # it did not answer, and has to before it is given a request
        self.is_asked = False  # whether it lives


class Turn(Generic[T]):
    """A request that a server was chosen for."""

    def __init__(self, member: Member[T], request: InferRequest | None, now: float, timeout: float) -> None:
        self.member = member
        self.request = request
        self.failures = member.failures  # what was sent before a failure says nothing new after it
        self.started = now
        patience = timeout if request is None or request.patience is None else request.patience
        self.half_time = now + max(SILENCE, patience / 2)
        self.cancel: Callable[[], object] | None = None
        self.given_up = False

    @property
    def transport(self) -> T:
        """The way to the server."""
        return self.member.transport

    def give_up(self) -> None:
        """The request is to go to another server."""
        if self.cancel is not None:
            self.given_up = True
            self.cancel()

    def silence(self) -> Silent:
        """The error of what was given up."""
        return Silent(f"{self.transport.peer.name} did not answer")


class Pool(Generic[T]):
    """Chooses among servers, and remembers which of them failed. Threads may share it."""

    def __init__(self, transports: Sequence[T], clock: Callable[[], float] = time.monotonic) -> None:
        self._members = [Member(transport) for transport in transports]
        self._clock = clock
        self._next = 0
        self._lock = threading.Lock()
        self.used_at = 0.0  # when a request was sent last

    @property
    def reached(self) -> bool:
        """Whether any server has answered yet."""
        return any(member.transport.peer.reached for member in self._members)

    @property
    def has_spare(self) -> bool:
        """Whether there is a server that is not passed over."""
        now = self._clock()
        return any(_is_able(member, now) for member in self._members)

    def has_spare_for(self, request: InferRequest) -> bool:
        """Whether there is one for this request."""
        now = self._clock()
        return any(_is_able(member, now) and _may_serve(member, request) for member in self._members)

    def question(self, model: str) -> Query | None:
        """What must still be asked of a server that is not passed over."""
        now = self._clock()
        questions = (member.transport.peer.question(model) for member in self._members if _is_able(member, now))
        return next((question for question in questions if question is not None), None)

    def limit(self, model: str) -> int | None:
        """Texts in a request that every server takes, of which that is known."""
        limits = [member.transport.peer.limit(model) for member in self._members]
        return min((limit for limit in limits if limit is not None), default=None)

    def max_seq_len(self, model: str) -> int | None:
        """Tokens of a text that any server computes at most, of which that is known."""
        lengths = [member.transport.peer.max_seq_len(model) for member in self._members]
        return max((length for length in lengths if length is not None), default=None)

    def prompt_length(self, model: str) -> int:
        """Characters that any server puts before a text at most, of which that is known."""
        return max(member.transport.peer.prompt_length(model) for member in self._members)

    def may_serve(self, request: InferRequest) -> bool:
        """Whether any server may have the model that is asked for."""
        return any(_may_serve(member, request) for member in self._members)

    def holds(self, model: str) -> str:
        """Which models are where, for an error."""
        return ", ".join(member.transport.peer.holds(model) for member in self._members)

    @property
    def name(self) -> str:
        """The addresses."""
        return ", ".join(member.transport.peer.name for member in self._members)

    @property
    def servers(self) -> int:
        """How many there are."""
        return len(self._members)

    @contextmanager
    def turn(self, wanted: InferRequest | Query | None = None) -> Iterator[T]:
        """The way to the server whose turn it is, for one request, whose outcome is remembered."""
        turn = self.take(wanted)
        try:
            yield turn.transport
        except ClientError as error:
            raise self.failed(turn, error) from None
        else:
            self.succeeded(turn)
        finally:
            self.release(turn)

    def take(self, wanted: InferRequest | Query | None = None, timeout: float = 0.0) -> Turn[T]:
        """The server whose turn it is; to be given back by `release`. `timeout`: seconds that the request may take.

        Raises:
            VersionChanged: No server has the model that is asked for.
        """
        request = wanted if isinstance(wanted, InferRequest) else None
        with self._lock:
            now = self._clock()
            in_turn = self._members[self._next :] + self._members[: self._next]
            if request is not None:
                in_turn = [member for member in in_turn if _may_serve(member, request)]
                if not in_turn:
                    raise VersionChanged(f"no server has model {request.identity} now: {self.holds(request.model)}")
            able = [member for member in in_turn if _is_able(member, now)]
            if isinstance(wanted, Query) and not wanted.model:  # which a server without some model can answer too
                able = [m for m in in_turn if not m.is_silent and m.unreachable is None] or able
            elif isinstance(wanted, Query):  # to whom the question has not been put yet
                able = [m for m in able if m.transport.peer.question(wanted.model) == wanted] or able
            if able:
                chosen = min(able, key=lambda member: len(member.turns))
            else:
                chosen = min(in_turn, key=lambda member: member.resumes_at)
            if chosen.pause:
                chosen.resumes_at = now + chosen.pause  # the others wait for what this request finds
            self._next = (self._members.index(chosen) + 1) % len(self._members)
            turn = Turn(chosen, request, now, timeout)
            chosen.turns.add(turn)
            self.used_at = now
            return turn

    def release(self, turn: Turn[T]) -> None:
        """The request is over, however it ended."""
        with self._lock:
            turn.member.turns.discard(turn)

    def succeeded(self, turn: Turn[T]) -> None:
        """The server works."""
        member = turn.member
        member.answered_at = self._clock()
        if member.pause or member.is_silent:
            with self._lock:
                if turn.failures == member.failures:
                    member.pause = member.resumes_at = 0.0
                    member.unreachable = None
                    member.is_silent = False

    def failed(self, turn: Turn[T], error: ClientError) -> ClientError:
        """Remember the failure; returns what to raise, which names all servers if none can be reached."""
        member = turn.member
        if not isinstance(error, (DeadlineExceeded, ServerUnreachable)):
            member.answered_at = self._clock()
        expired = isinstance(error, DeadlineExceeded) and member.answered_at <= turn.started
        if not isinstance(error, PASSED_OVER) and not expired:
            if isinstance(error, (InvalidArgument, VersionChanged)):  # which a server says that works
                self.succeeded(turn)
            return error
        self._pass_over(member, turn.failures, error)
        reasons = [other.unreachable for other in self._members]
        return error if None in reasons else ServerUnreachable("; ".join(map(str, reasons)))

    def _pass_over(self, member: Member[T], failures: int, error: ClientError) -> None:
        first, longest = BUSY_PAUSES if isinstance(error, ServerBusy) else LOST_PAUSES
        with self._lock:
            if failures == member.failures:
                member.failures += 1
                member.pause = min(longest, 2 * member.pause or first)
                member.resumes_at = self._clock() + member.pause
                member.unreachable = str(error) if isinstance(error, ServerUnreachable) else None
                member.is_silent = isinstance(error, DeadlineExceeded)

    def is_idle(self, seconds: float) -> bool:
        """Whether nothing is on its way, and nothing was sent for so long."""
        with self._lock:
            return not any(member.turns for member in self._members) and self._clock() - self.used_at > seconds

    def query_seconds(self, timeout: float) -> float:
        """For one query of a call that has so many left: not all of them, if another server may answer it."""
        now = self._clock()
        able = sum(_is_able(member, now) for member in self._members)
        return min(QUERY_PATIENCE, timeout / 2) if able > 1 else timeout

    def look_after(self) -> list[Member[T]]:
        """Give up what waits in vain while another server could do it; returns the servers to be asked if they live."""
        with self._lock:
            now = self._clock()
            to_ask = [member for member in self._members if not member.is_asked and self._is_doubtful(member, now)]
            for member in to_ask:
                member.is_asked = True
            hung = [
                turn
                for member in self._members
                for turn in member.turns
                if now >= turn.half_time and member.answered_at <= turn.started and self._others_may(turn, now)
            ]
        for turn in hung:
            turn.give_up()
        return to_ask

    def _is_doubtful(self, member: Member[T], now: float) -> bool:
        if member.is_silent:
            return member.resumes_at <= now
        waiting = [turn.started for turn in member.turns if self._others_may(turn, now)]
        return bool(waiting) and now - max(member.answered_at, min(waiting)) >= SILENCE

    def _others_may(self, turn: Turn[T], now: float) -> bool:
        return turn.cancel is not None and any(
            _is_able(other, now) and (turn.request is None or _may_serve(other, turn.request))
            for other in self._members
            if other is not turn.member
        )

    def was_asked(self, member: Member[T], lives: bool) -> None:
        """Whether the server answered when it was asked; what waits for one that did not goes to another."""
        member.is_asked = False
        if lives:
            member.answered_at = self._clock()
            member.is_silent = False  # the next request finds out whether it works, too
            return
        failures, turns = member.failures, list(member.turns)
        self._pass_over(member, failures, Silent(f"{member.transport.peer.name} did not answer"))
        for turn in turns:
            turn.give_up()


def _is_able(member: Member[Any], now: float) -> bool:
    return not member.is_silent and member.resumes_at <= now


def _may_serve(member: Member[Any], request: InferRequest) -> bool:
    return member.transport.peer.may_serve(request)  # type: ignore[no-any-return]
