"""How far a job is, told every few seconds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from ray.exceptions import RayError

from client_sdk.corpus.tally import Counts, Tally

_EVERY = 10.0  # seconds
_LOOK = 1.0  # seconds between two looks for the first texts that have been answered


@contextlib.contextmanager
def told(tell: Callable[[str], object] | None, tally: Tally, before: Counts, rows: int | None) -> Iterator[None]:
    """Give `tell` a line every few seconds within it; `rows` is how many the input has, if that is known."""
    if tell is None:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(tell, tally, before, rows, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(
    tell: Callable[[str], object], tally: Tally, before: Counts, rows: int | None, ended: threading.Event
) -> None:
    started = time.monotonic()
    last, answered = started, False
    while not ended.wait(_EVERY if answered else _LOOK):
        try:
            now = tally.standing()
        except RayError:  # the job has ended with it
            return
        is_first = not answered and now.counts.texts > 0
        answered = answered or is_first
        if is_first or time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            tell(line(now.counts, before.texts, rows, now.seconds or last - started))


def line(counts: Counts, before: int, rows: int | None, seconds: float) -> str:
    """How far it is: rows of this run in so many seconds, and of those before."""
    done, rate = before + counts.texts, counts.texts / seconds
    parts = [f"{done:,} rows" if rows is None else f"{done:,} of {rows:,} rows", f"{rate:,.0f} rows/s"]
    if rows is not None and rate:
        left = (rows - done) / rate
        parts.append(f"{left / 3600:,.1f} hours left" if left > 3600 else f"{left / 60:,.0f} minutes left")
    if counts.refused:
        parts.append(f"{counts.refused:,} refused")
    return ", ".join(parts)
