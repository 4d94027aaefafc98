"""The replies of a call without an end, given in order while it goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from client_sdk._call.collect import Rows
from client_sdk._call.plan import WINDOW_TEXTS
from client_sdk._transport.base import Arrays

Block = npt.NDArray[Any]
"""[n, ...], a row for each of n consecutive texts."""


@dataclass
class _Open:
    end: int
    missing: int
    rows: Rows


class Blocks:
    """A collector that gives a block for each window of texts, once it and all before it are whole.

    `make(start, count)` makes what puts together the rows of `count` texts from the one at `start` on.
    """

    def __init__(self, make: Callable[[int, int], Rows]) -> None:
        self._make = make
        self._open: deque[_Open] = deque()
        self._end = self._given = 0

    def opened(self, end: int) -> None:
        """The texts up to `end` are about to be sent: one more window."""
        count = end - self._end
        self._open.append(_Open(end, count, self._make(self._end, count)))
        self._end = end

    @property
    def is_ahead(self) -> bool:
        """Whether a third window has begun before the first is whole: nothing more is to be sent until it is."""
        return self._end - self._given > 2 * WINDOW_TEXTS

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Keep the rows of a reply, all of one window."""
        window = next(window for window in self._open if positions[0] < window.end)
        window.rows.take(positions, reply)
        window.missing -= len(positions)

    def ready(self) -> Iterator[Block]:
        """The blocks that are whole, each of which is forgotten as it is given."""
        while self._open and not self._open[0].missing:
            window = self._open.popleft()
            self._given = window.end
            yield window.rows.result()

    def result(self) -> list[Block]:
        """The blocks that were not given before."""
        return list(self.ready())

    def only(self) -> Any:
        """The row of a single text."""
        return self.result()[0][0]
