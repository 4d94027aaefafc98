"""Ends the process of a step that stood still in the middle of a batch.

Triton waits for the answer to a batch second by second of the wall clock, and gives the batch up after one in which the
process showed no life: it was stopped, it got no processor, or the machine slept. When the process goes on, Triton
takes its answer for that to the next batch, so that a request gets the vectors of another one. What has ended answers
nobody, and is found as any step that dies.

Signs of life come from a thread of Triton's own (`background_thread` of the Python backend's `pb_stub.cc`). It does not
wait for Python's lock, so a process whose Python waits, for the disk say, or computes in one long call, did not stand
still: that thread is looked at, and not how late this one is.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TICK = 0.1  # seconds
LIFE = 0.3  # between two signs of life
STALL = 0.7  # what is left of Triton's second, since the last sign may have come LIFE before the process stood still
PICKED_UP = 0.3  # a batch that begins so soon after a stall may have waited through it


class Stalls:
    """A thread that notices when the process has stood still."""

    def __init__(self) -> None:
        self._thread_of_life = thread_of_life()
        self._seen = time.time()
        self._counted = self._seen, signs(self._thread_of_life)
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
            self._counted = time.time(), signs(self._thread_of_life)

    def _look(self) -> None:
        now = time.time()
        if now - self._seen > STALL and self._silence(now) > STALL:
            self._over = time.monotonic()
        self._seen = now

    def _silence(self, now: float) -> float:
        """Seconds without a sign of life, at most, since they were counted last."""
        then, before = self._counted
        passed = now - then
        shown = signs(self._thread_of_life) - before
        if shown > passed / LIFE + 1:  # these were no signs, but something else that the thread did
            return passed
        return passed - LIFE * max(0, shown - 1)


def thread_of_life() -> Path:
    """The thread of this process that Triton's stub has started first, before there was anything of Python."""
    _, *others = os.listdir("/proc/self/task")  # in the order in which they were started
    return Path("/proc/self/task", others[0] if others else "none")


def signs(thread: Path) -> int:
    """How often a thread has gone to sleep, which that one does after each sign; 0 where the system does not say."""
    with suppress(OSError):
        for line in (thread / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                return int(line.split()[1])
    return 0


def die() -> None:
    """End the process at once, before it answers."""
    print(f"{__file__}: the process stood still in the middle of a batch, and ends", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
