"""The ceiling: the same network in bare ONNX Runtime, in one process, fed ids that were made before the clock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime

from perf.ceiling.slices import longest_first
from perf.texts import load_tokenizer

Feed = dict[str, np.ndarray]


class Bare:
    """The network of an exported family, without a server.

    Args:
        repository: A model repository that holds the family.
        name: Of the family.
        max_seq_len: Where texts are cut, in tokens.

    Raises:
        Failure: The repository does not hold the family.
    """

    def __init__(self, repository: Path, name: str = "bert", max_seq_len: int = 128) -> None:
        self._tokenizer = load_tokenizer(repository, name)
        self._tokenizer.enable_truncation(max_seq_len)
        self.cores = len(os.sched_getaffinity(0))
        path = repository / f"{name}_encoder/1/model.onnx"
        self._wide, self._narrow = _session(path, self.cores), _session(path, 1)

    def one(self, text: str) -> Callable[[], np.ndarray]:
        """A call that computes one text on all cores: pooled [1, 4, D]."""
        feed = _feed([self._tokenizer.encode(text).ids])
        return lambda: self._run(self._wide, feed)

    def bulk(self, texts: Sequence[str]) -> dict[str, Callable[[], None]]:
        """Call that compute all texts, longest first, in slices: one after the other on all cores, or one a core."""
        feeds = [_feed(part) for part in longest_first([row.ids for row in self._tokenizer.encode_batch(texts)])]

        def one_by_one() -> None:
            for feed in feeds:
                self._run(self._wide, feed)

        def side_by_side() -> None:
            with ThreadPoolExecutor(self.cores) as pool:
                list(pool.map(lambda feed: self._run(self._narrow, feed), feeds))

        return {"one after the other": one_by_one, "side by side": side_by_side}

    @staticmethod
    def _run(session: onnxruntime.InferenceSession, feed: Feed) -> np.ndarray:
        pooled: np.ndarray = session.run(["pooled"], feed)[0]
        return pooled


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _feed(rows: Sequence[list[int]]) -> Feed:
    ids = np.concatenate([np.asarray(row, np.int32) for row in rows])
    ones = np.ones_like(ids)
    feed = {
        "input_ids": ids,
        "attention_mask": ones,
        "token_type_ids": np.zeros_like(ids),
        "pooling_mask": ones,
    }
    return feed | dict.fromkeys((f"{name}_shape" for name in feed), np.array([[len(row)] for row in rows], np.int32))
