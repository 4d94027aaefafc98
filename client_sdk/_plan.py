"""The one place that decides which texts travel together, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ._texts import Text

IN_FLIGHT = 4
"""Requests on their way to a server at the same time: enough for the server to merge some while it computes others."""

WINDOW_TEXTS = 4096
WINDOW_CHARACTERS = 1 << 23
"""Texts are read ahead and sorted by length this far; it bounds what a stream may hold in memory."""

BATCH_CHARACTERS = 1 << 22
"""A request of several texts holds no more than this many: Triton refuses HTTP bodies of 64 MiB."""


@dataclass(frozen=True)
class Batch:
    """Texts of one request, all str or all pairs, and where each stands in the caller's order."""

    texts: list[Text]
    positions: list[int]


def plan(texts: Iterable[Text], batch_size: int) -> Iterator[Batch]:
    """Cut a stream into batches of texts of like length, reading no further ahead than a window.

    A batch costs what its longest text costs, wherever rows are padded; and with the longest first, no long
    batch is left to run alone at the end.
    """
    for window in _windows(texts):
        singles = [entry for entry in window if isinstance(entry[2], str)]
        pairs = [entry for entry in window if not isinstance(entry[2], str)]
        for entries in (singles, pairs):
            entries.sort(key=lambda entry: -entry[0])
            yield from _batches(entries, batch_size)


def cut(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in pieces of no more than `size` texts."""
    for start in range(0, len(batch.texts), size):
        end = start + size
        yield Batch(batch.texts[start:end], batch.positions[start:end])


_Entry = tuple[int, int, Text]  # length in characters (tokens are the server's to count), position, text


def _windows(texts: Iterable[Text]) -> Iterator[list[_Entry]]:
    window: list[_Entry] = []
    characters = 0
    for position, text in enumerate(texts):
        length = len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
        window.append((length, position, text))
        characters += length
        if len(window) >= WINDOW_TEXTS or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def _batches(entries: list[_Entry], batch_size: int) -> Iterator[Batch]:
    start = 0
    while start < len(entries):
        longest = max(1, entries[start][0])  # they are sorted
        size = min(batch_size, max(1, BATCH_CHARACTERS // longest))
        chosen = entries[start : start + size]
        yield Batch([text for _, _, text in chosen], [position for _, position, _ in chosen])
        start += size
