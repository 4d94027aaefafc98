"""A thread for requests that take long: each gets a short turn, one after the other, while short ones are served."""

import contextlib
import ctypes
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from request_parameters import Refused

MAX_WAITING_BYTES = 128 << 20  # of the texts of all of them


class LongTurns:
    """Jobs with a `size` in bytes that are not done at once; any thread may put one."""

    def __init__(self, advance: Callable[[Any], bool], finish: Callable[[Any, BaseException | None], None]) -> None:
        """`advance(job)` is a turn, and tells whether it was the last; `finish(job, error)` is called after that.

        `error` is what a turn raised, or None. Neither may be in vain for the others: what they raise ends nothing.
        """
        self._advance = advance
        self._finish = finish
        self._jobs: deque[Any] = deque()
        self._size = 0
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, job: Any) -> None:
        """Add a job. Raises Refused: too many wait."""
        with self._changed:
            if self._size and self._size + job.size > MAX_WAITING_BYTES:
                raise Refused(
                    f"long texts of {self._size} bytes wait to be tokenized, and {MAX_WAITING_BYTES} may; "
                    "try again later",
                    "UNAVAILABLE",
                )
            self._size += job.size
            self._jobs.append(job)
            self._changed.notify()

    def end(self) -> None:
        """Finishes what is there, and ends the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._ended)
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            error: BaseException | None = None
            try:
                is_last = self._advance(job)
            except BaseException as raised:  # tokenizers' PanicException is no Exception
                error, is_last = raised, True
            if not is_last:
                with self._changed:
                    self._jobs.append(job)
                continue
            with contextlib.suppress(BaseException):  # there is nobody left to tell
                self._finish(job, error)
            with self._changed:
                self._size -= job.size
                is_idle = not self._jobs
            del job, error
            if is_idle:
                with contextlib.suppress(BaseException):  # it may take some
                    _give_memory_back()


def _give_memory_back() -> None:
    """Has malloc return what is free to the system; where it is not glibc's, nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
