"""Texts per second, over repeated calls or over one that is cut off."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

Encode = Callable[[Any], object]


@dataclass(frozen=True)
class Rate:
    """One point.

    Attributes:
        value: What was varied: texts in a call, tokens of a text, percent of long texts.
        tokens: Mean of a text, special tokens included; 0 if it was not looked at.
        texts: In a call, that were done.
        seconds: Of each call.
        name: Of the way it was done, where there are several.
        cut_off: Whether the call would have had more texts.
    """

    value: float
    tokens: float
    texts: int
    seconds: tuple[float, ...]
    name: str = ""
    cut_off: bool = False

    @property
    def texts_per_second(self) -> float:
        """The median over the calls."""
        return self.texts / statistics.median(self.seconds)

    @property
    def least(self) -> float:
        """Texts per second of the slowest call."""
        return self.texts / max(self.seconds)

    @property
    def most(self) -> float:
        """Texts per second of the fastest call."""
        return self.texts / min(self.seconds)


def repeated(encode: Encode, texts: Sequence[str], budget: float) -> tuple[float, ...]:
    """Seconds of each call with all the texts, repeated until `budget` seconds are used up; at least one."""
    found = []
    end = time.perf_counter() + budget
    while not found or time.perf_counter() + statistics.median(found) < end:
        found.append(timed(lambda: encode(texts)))
    return tuple(found)


def one_long_call(encode: Encode, texts: Sequence[str], count: int, budget: float) -> tuple[int, float]:
    """Texts done and seconds of one call with `count` texts, which is given no more of them after `budget` seconds.

    What the client has read by then is still computed, and counts.
    """
    done = 0
    end = time.perf_counter() + budget

    def stream() -> Iterator[str]:
        nonlocal done
        for text in islice(cycle(texts), count):
            if done and time.perf_counter() > end:
                return
            done += 1
            yield text

    seconds = timed(lambda: encode(stream()))
    return done, seconds


def in_order(encode: Encode, texts: Sequence[str], request: int, at_a_time: int) -> None:
    """Send the texts as they stand, `request` at a time, so that no client sorts them over a longer stretch."""
    requests = [texts[start : start + request] for start in range(0, len(texts), request)]
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(encode, requests))


def timed(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
