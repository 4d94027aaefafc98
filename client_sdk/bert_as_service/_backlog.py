"""Calls that run in the background, and their results in the order in which they were started."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class Backlog(Generic[R]):
    """Runs calls in the background and keeps each result until it is fetched. Threads may share it.

    Args:
        workers: Calls that run at the same time.
        per_thread: Whether a thread fetches only what it has started itself.
    """

    def __init__(self, workers: int, *, per_thread: bool) -> None:
        self._workers = workers
        self._own: Any = threading.local() if per_thread else SimpleNamespace()
        self._lock = threading.Lock()
        self._started = 0
        self._unfetched: set[int] = set()
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0  # whose the pool is: a forked child has none of its threads

    @property
    def started(self) -> int:
        """How many calls have been numbered, those that did not run in the background included."""
        return self._started

    @property
    def unfetched(self) -> set[int]:
        """The numbers of the calls whose results are still to be fetched, all threads together."""
        with self._lock:
            return set(self._unfetched)

    def number(self) -> int:
        """The next call's number, from 1."""
        with self._lock:
            self._started += 1
            return self._started

    def run(self, call: Callable[[], R]) -> tuple[int, Future[R]]:
        """Start a call whose result is handed to the caller alone, and not to `fetch`."""
        number = self.number()
        with self._lock:
            if self._pool is None or self._process != os.getpid():
                self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="bert-backlog")
                self._process = os.getpid()
            return number, self._pool.submit(call)

    def start(self, call: Callable[[], R]) -> None:
        """Start a call whose result `fetch` gives."""
        number, future = self.run(call)
        with self._lock:
            self._waiting[number] = future
            self._unfetched.add(number)

    def fetch(self) -> Iterator[tuple[int, R]]:
        """Yield number and result of each call, waiting for the oldest; an error is raised in its call's place.

        After an error the results behind it are still there: fetch again.
        """
        while (oldest := self._take_oldest()) is not None:
            number, future = oldest
            try:
                result = future.result()
            except BaseException:
                if not future.done():  # the wait itself was interrupted
                    self._put_back(number, future)
                raise
            yield number, result

    def fetch_all(self) -> list[tuple[int, R]]:
        """Wait for every call, and give numbers and results. If a call failed, the others stay to be fetched."""
        with self._lock:
            waiting = dict(self._waiting)
        wait(waiting.values())
        for number, future in waiting.items():
            if future.exception() is not None:
                self._forget(number)
                future.result()  # raises
        return list(self.fetch())

    def close(self) -> None:
        """Give up what has not begun."""
        with self._lock:
            if self._pool is not None and self._process == os.getpid():
                self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            self._waiting.clear()
            self._unfetched.clear()

    @property
    def _waiting(self) -> dict[int, Future[R]]:
        return self._own.__dict__.setdefault("waiting", {})  # type: ignore[no-any-return]

    def _take_oldest(self) -> tuple[int, Future[R]] | None:
        with self._lock:
            if not self._waiting:
                return None
            number = min(self._waiting)
            self._unfetched.discard(number)
            return number, self._waiting.pop(number)

    def _put_back(self, number: int, future: Future[R]) -> None:
        with self._lock:
            self._waiting[number] = future
            self._unfetched.add(number)

    def _forget(self, number: int) -> None:
        with self._lock:
            self._waiting.pop(number, None)
            self._unfetched.discard(number)
