"""How long calls take, and what memory of the GPU is in use meanwhile."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from perf.gpu.found import gpu_memory
from perf.gpu.results import Measured

_BETWEEN = 0.1  # seconds between two looks at the memory

Item = TypeVar("Item")


def timed(
    call: Callable[[Sequence[Item]], object], batch: Sequence[Item], seconds: float
) -> tuple[float, float, float]:
    """Texts a second, and milliseconds of a batch: the median and the 95th of a hundred; the first call warms up."""
    call(batch)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        started = time.perf_counter()
        call(batch)
        taken.append(time.perf_counter() - started)
    median = statistics.median(taken)
    slow = statistics.quantiles(taken, n=20)[-1] if len(taken) >= 20 else max(taken)
    return len(batch) / median, median * 1e3, slow * 1e3


@contextmanager
def peak_memory(result: Measured, look: Callable[[], int | None] = gpu_memory) -> Iterator[None]:
    """Write the most memory that is in use within the `with` block, over what was before, into `result`."""
    before = look()
    if before is None:
        yield
        return
    most, done = before, threading.Event()

    def sample() -> None:
        nonlocal most
        while not done.wait(_BETWEEN):
            most = max(most, look() or 0)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        result.memory = max(most, look() or 0) - before
