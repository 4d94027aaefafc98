"""Clients of engines that are fed ids made before the clock, as the bare network is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from tokenizers import Tokenizer

from perf.ceiling.slices import longest_first

Rows: TypeAlias = list[list[int]]
Run: TypeAlias = Callable[[Rows], np.ndarray]
"""From rows of ids to their vectors, not scaled: float32 [rows, D]."""

_MAX_TOKENS = 256


class OnIds(ABC):
    """A request is rows of ids. A call is computed on all cores; in bulk each core computes a slice by itself."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._tokenizer = Tokenizer.from_file(config["tokenizer"])
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self.cores = len(os.sched_getaffinity(0))
        self._wide, self._narrow = self.on_all_cores(config["network"]), self.on_each_core(config["network"])

    @abstractmethod
    def on_all_cores(self, network: str) -> Run:
        """Load the network for one call at a time."""

    @abstractmethod
    def on_each_core(self, network: str) -> Run:
        """Load it for as many calls at a time as there are cores."""

    def prepare(self, texts: list[str]) -> Rows:
        """Make the ids."""
        return [row.ids for row in self._tokenizer.encode_batch(texts)]

    def connect(self) -> Run:
        """The network."""
        return self._wide

    def vectors(self, answer: np.ndarray) -> np.ndarray:
        """Scaled to length 1."""
        return answer / np.linalg.norm(answer, axis=1, keepdims=True)

    def bulk(self, texts: list[str]) -> Callable[[], None]:
        """All the slices, side by side."""
        slices = longest_first(self.prepare(texts))

        def call() -> None:
            with ThreadPoolExecutor(self.cores) as pool:
                list(pool.map(self._narrow, slices))

        return call


def padded(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask, INT32 [rows, longest]."""
    lengths = np.array([len(row) for row in rows])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int32)
    ids = np.zeros_like(mask)
    ids[mask == 1] = np.concatenate(rows)
    return ids, mask
