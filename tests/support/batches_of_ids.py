"""Batches of token ids in padded rows, for tests of networks, and what the padding-free network gets of them."""

from __future__ import annotations

import numpy as np

from export.network.layout import INPUTS, shape_of

Feed = dict[str, np.ndarray]

MIXED = [[5, 6, 7, 8, 9, 10, 11], [5, 6, 7], [12, 13], list(range(5, 45)), [9], [8, 7, 6, 5]]


def padded(rows: list[list[int]], pools: list[list[int]] | None = None, *, on_the_left: bool = False) -> Feed:
    """INT32 [N, S]; token types alternate; `pools` is each row's pooling mask, by default of ones."""
    width = max(map(len, rows))
    feed = {name: np.zeros((len(rows), width), np.int32) for name in INPUTS}
    for index, row in enumerate(rows):
        place = np.s_[index, width - len(row) :] if on_the_left else np.s_[index, : len(row)]
        feed["input_ids"][place] = row
        feed["attention_mask"][place] = 1
        feed["token_type_ids"][place] = np.arange(len(row)) % 2
        feed["pooling_mask"][place] = pools[index] if pools else 1
    return feed


def laid_end_to_end(feed: Feed) -> Feed:
    """The same rows as Triton's ragged batching hands them over."""
    count, width = feed["input_ids"].shape
    widths = np.full((count, 1), width, np.int32)
    return {name: array.reshape(-1) for name, array in feed.items()} | dict.fromkeys(map(shape_of, INPUTS), widths)
