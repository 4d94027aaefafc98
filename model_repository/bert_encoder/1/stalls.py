"""Ends the process of a step that stood still in the middle of a batch.

Triton waits for the answer to a batch second by second of the wall clock, and gives the batch up after one in which the
process showed no life: it was stopped, it got no processor, or the machine slept. When the process goes on, Triton
takes its answer for that to the next batch, so that a request gets the vectors of another one. What has ended answers
nobody, and is found as any step that dies.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

TICK = 0.1  # seconds
STALL = 0.7  # what is left of Triton's second, as the process shows life every 0.3 s
BUSY = 0.1  # of a processor; a process that got more of it did not stand still, whatever kept this thread waiting
PICKED_UP = 0.3  # a batch that begins so soon after a stall may have waited through it


class Stalls:
    """A thread that notices when the process has stood still."""

    def __init__(self) -> None:
        self._seen, self._used = time.time(), time.process_time()
        self._over = float("-inf")  # when the last stall was, by time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """What Triton waits for: from what it hands over until it is answered."""
        self._look()
        started = time.monotonic()
        yield
        self._look()
        if self._over > started - PICKED_UP:
            die()

    def end(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(TICK):
            self._look()

    def _look(self) -> None:
        now, used = time.time(), time.process_time()
        passed = now - self._seen
        if passed > STALL and used - self._used < BUSY * passed:
            self._over = time.monotonic()
        self._seen, self._used = now, used


def die() -> None:
    """End the process at once, before it answers."""
    print(f"{__file__}: the process stood still in the middle of a batch, and ends", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
