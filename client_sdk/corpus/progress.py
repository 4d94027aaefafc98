"""How far a job is, told every few seconds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from ray.exceptions import RayError

from client_sdk.corpus.tally import Counts, Tally

_EVERY = 10.0  # seconds


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
    while not ended.wait(_EVERY):
        try:
            counts = tally.counts()
        except RayError:  # the job has ended with it
            return
        tell(line(counts, before.texts, rows, time.monotonic() - started))


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
