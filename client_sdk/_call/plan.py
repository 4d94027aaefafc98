"""The one place that decides which texts travel together, and in which order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from client_sdk._call.texts import Text

DEFAULT_BATCH_SIZE = 64
"""Texts in a request."""

BATCH_TOKENS = DEFAULT_BATCH_SIZE * 512
"""Tokens in a request, unless its size is the caller's wish: so many texts of BERT's longest, and fewer longer ones.

The server computes rows of several requests together, so that smaller ones of long texts cost nothing; and it does not
keep a caller waiting for an answer until dozens of such texts are computed.
"""

IN_FLIGHT = 4
"""Requests on their way to a server at the same time: enough for the server to merge some while it computes others."""

WINDOW_TEXTS = 4096
WINDOW_CHARACTERS = 1 << 23
WINDOW_SECONDS = 0.5
"""Texts are read ahead and sorted by length this far: it bounds what a stream may hold in memory, and for how long."""

BATCH_CHARACTERS = 1 << 22
"""A request of several texts holds no more than this many: Triton of 2026 refuses HTTP bodies above 64 MiB."""


@dataclass(frozen=True)
class Room:
    """What a request may hold."""

    texts: int
    tokens: float = math.inf
    read: float = math.inf
    """Tokens of a text that the model computes at most."""
    before: int = 0
    """Characters of the prompt that the server puts before each text."""

    def for_texts_of(self, characters: int) -> int:
        """How many texts of this length; one in any case."""
        cost = min(self.before + characters, self.read)
        size = min(self.texts, BATCH_CHARACTERS // characters, self.tokens // cost)
        return max(1, int(size))


@dataclass(frozen=True)
class Batch:
    """Texts of one request, all str or all pairs, and where each stands in the caller's order."""

    texts: list[Text]
    positions: list[int]
    read: float = math.inf
    before: int = 0
    """Of each text, as in `Room`."""

    @property
    def tokens(self) -> float:
        """That it costs at most, or nearly so: a token has one character or more in almost every text."""
        return sum(min(self.before + _length(text), self.read) for text in self.texts)

    def rows(self) -> list[list[bytes]]:
        """The texts in UTF-8, a row of one or of two for each."""
        return [
            [text.encode()] if isinstance(text, str) else [text[0].encode(), text[1].encode()] for text in self.texts
        ]


_Entry = tuple[int, int, Text]  # length in characters (tokens are the server's to count), position, text


class Window:
    """Texts that are sorted together, read one after the other until it is full or old."""

    def __init__(self, start: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.entries: list[_Entry] = []
        self._start = start  # the first text's position
        self._clock = clock
        self._characters = 0
        self._opened = 0.0  # when the first text came

    @property
    def end(self) -> int:
        """The position behind the last text."""
        return self._start + len(self.entries)

    def add(self, text: Text) -> bool:
        """Take a text in; whether it was the last one for which there is room or time."""
        length = _length(text)
        if not self.entries:
            self._opened = self._clock()
        self.entries.append((length, self.end, text))
        self._characters += length
        return len(self.entries) >= WINDOW_TEXTS or self._characters >= WINDOW_CHARACTERS or self.seconds_left() <= 0

    def seconds_left(self) -> float:
        """For which a window with texts in it may wait for others."""
        return self._opened + WINDOW_SECONDS - self._clock()


def plan(
    texts: Iterable[Text],
    room: Room,
    clock: Callable[[], float] = time.monotonic,
    opened: Callable[[int], object] = lambda end: None,
) -> Iterator[Batch]:
    """Cut a stream into batches of texts of like length, reading no further ahead than a window.

    `opened` is told the end of each window before its batches come.
    """
    for window in windows(texts, clock):
        opened(window.end)
        yield from batches(window, room)


def windows(texts: Iterable[Text], clock: Callable[[], float] = time.monotonic) -> Iterator[Window]:
    """Cut a stream into windows."""
    window = Window(0, clock)
    for text in texts:
        if window.add(text):
            yield window
            window = Window(window.end, clock)
    if window.entries:
        yield window


def batches(window: Window, room: Room) -> Iterator[Batch]:
    """Cut a window into batches of texts of like length.

    A batch costs what its longest text costs, wherever rows are padded; and with the longest first, no long
    batch is left to run alone at the end.
    """
    singles = [entry for entry in window.entries if isinstance(entry[2], str)]
    pairs = [entry for entry in window.entries if not isinstance(entry[2], str)]
    for entries in (singles, pairs):
        entries.sort(key=lambda entry: -entry[0])
        yield from _batches(entries, room)


def cut(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in pieces of no more than `size` texts."""
    for start in range(0, len(batch.texts), size):
        end = start + size
        yield replace(batch, texts=batch.texts[start:end], positions=batch.positions[start:end])


def _length(text: Text) -> int:
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])


def _batches(entries: list[_Entry], room: Room) -> Iterator[Batch]:
    start = 0
    while start < len(entries):
        size = room.for_texts_of(max(1, entries[start][0]))  # they are sorted
        chosen = entries[start : start + size]
        texts, positions = [text for _, _, text in chosen], [position for _, position, _ in chosen]
        yield Batch(texts, positions, room.read, room.before)
        start += size
