"""What the network gave of rows, kept so that an equal row need not be computed again; off unless export gives it room.

The key is all that the network reads of a row, so that no two rows that may differ share an entry; an entry is of the
one network that this process has loaded. What pooling, width and prompt make of it comes before and behind.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from jobs import OF_TOKENS, RAGGED, Job

ENTRY_BYTES = 500
"""What Python itself needs for an entry, about: its key, its arrays and its place."""

_Entry = dict[str, npt.NDArray[Any]]


class Cache:
    """The least recently used rows are forgotten first. Its methods may be called from any thread.

    Args:
        max_bytes: Of all entries together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size = 0  # bytes
        self.hits = self.misses = 0  # rows that were looked for
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def fill(self, job: Job) -> None:
        """Put what is known of a job's rows into its outputs; they are then neither missing nor uncomputed."""
        if not self._keeps(job.shapes):
            return
        for row in job.rows():
            entry = self._find(row.inputs.tobytes(), job.shapes)
            if entry is None:
                continue
            job.make_outputs()
            for name, output in job.outputs.items():
                output[row.index] = entry[name]
            job.uncomputed.discard(row.index)
            job.missing -= 1

    def keep(self, key: bytes, results: Mapping[str, npt.NDArray[Any]]) -> None:
        """Remember what the network gave of the row with these inputs, as far as that is of one size for every row."""
        entry = {name: np.array(result) for name, result in results.items() if self._keeps([name])}
        if not entry:
            return
        with self._lock:
            before = self._entries.pop(key, None)
            if before is not None:
                self.size -= _size(key, before)
                entry = {**before, **entry}
            self._entries[key] = entry
            self.size += _size(key, entry)
            while self.size > self.max_bytes:
                self.size -= _size(*self._entries.popitem(last=False))

    def _find(self, key: bytes, wanted: Iterable[str]) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or not entry.keys() >= {*wanted}:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return entry

    @staticmethod
    def _keeps(outputs: Iterable[str]) -> bool:
        """Whether all of them are of one size for every row, however long it is."""
        return not any(name in OF_TOKENS or name in RAGGED for name in outputs)


def _size(key: bytes, entry: _Entry) -> int:
    return ENTRY_BYTES + len(key) + sum(result.nbytes for result in entry.values())
