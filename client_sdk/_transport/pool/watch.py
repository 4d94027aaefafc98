"""Looks after the requests of a pool while there are any: in a thread, or in a task of the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from client_sdk._errors import ClientError, DeadlineExceeded, ServerUnreachable
from client_sdk._transport.base import AsyncTransport, Query, Transport

if TYPE_CHECKING:
    from client_sdk._transport.pool.members import Member, Pool

LOOK_SECONDS = 0.1
IDLE_SECONDS = 5.0
"""After the last request the watch ends; the next one begins it again."""

ANSWER_SECONDS = 1.0
"""For a server that is asked whether it lives."""

_ARE_YOU_THERE = Query("server")


class Watch:
    """The watch over blocking transports."""

    def __init__(self, pool: Pool[Transport]) -> None:
        self._pool = pool
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """There is something to look after."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="client_sdk-pool", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self._goes_on():
            time.sleep(LOOK_SECONDS)
            for member in self._pool.look_after():
                threading.Thread(target=self._ask, args=(member,), name="client_sdk-pool-ask", daemon=True).start()

    def _goes_on(self) -> bool:
        with self._lock:
            if self._pool.is_idle(IDLE_SECONDS):
                self._thread = None
                return False
            return True

    def _ask(self, member: Member[Transport]) -> None:
        lives = False
        try:
            member.transport.query(_ARE_YOU_THERE, ANSWER_SECONDS)
            lives = True
        except ClientError as error:
            lives = _is_answer(error)
        finally:
            self._pool.was_asked(member, lives)


class AsyncWatch:
    """The watch over asynchronous transports."""

    def __init__(self, pool: Pool[AsyncTransport]) -> None:
        self._pool = pool
        self._task: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """There is something to look after."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def end(self) -> None:
        """The transports are being closed."""
        for task in (*self._asking, self._task):
            if task is not None:
                task.cancel()

    async def _run(self) -> None:
        while not self._pool.is_idle(IDLE_SECONDS):
            await asyncio.sleep(LOOK_SECONDS)
            for member in self._pool.look_after():
                task = asyncio.create_task(self._ask(member))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
        self._task = None

    async def _ask(self, member: Member[AsyncTransport]) -> None:
        lives = False
        try:
            await member.transport.query(_ARE_YOU_THERE, ANSWER_SECONDS)
            lives = True
        except ClientError as error:
            lives = _is_answer(error)
        finally:
            self._pool.was_asked(member, lives)


def _is_answer(error: ClientError) -> bool:
    return not isinstance(error, (DeadlineExceeded, ServerUnreachable))
