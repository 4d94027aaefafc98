"""Time in tests: none says how fast the machine is, since other work may take all of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

PATIENCE = 180.0
"""Seconds for what must happen: only a hang takes longer."""

T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float = PATIENCE) -> T:
    """What `condition` returns once that is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"it did not happen within {seconds:g} s"
        time.sleep(0.02)
    return value


def settled(read: Callable[[], T]) -> T:
    """What `read` returns once that has not changed for a while: an encoder tells Triton five times a second."""
    found, since = read(), time.monotonic()
    while time.monotonic() - since < 1.5:
        time.sleep(0.1)
        if (now := read()) != found:
            found, since = now, time.monotonic()
    return found


@contextmanager
def taking_at_least(seconds: float) -> Iterator[None]:
    """The block lasts so long, and it ends."""
    started = time.monotonic()
    yield
    assert seconds <= time.monotonic() - started < seconds + PATIENCE
