"""How bulk texts are cut for an engine that is fed ids: sorted by length, so many tokens a run."""

from __future__ import annotations

from collections.abc import Sequence

# Tokens in a run: large enough for full speed of the matrix products, small enough to stay in the caches. The best of
# 128 to 1024 for MiniLM; BERT-base is as fast from 256 to 768.
SLICE_TOKENS = 384


def longest_first(rows: Sequence[list[int]]) -> list[list[list[int]]]:
    """The rows of ids, the longest first, in slices."""
    slices: list[list[list[int]]] = [[]]
    tokens = 0
    for row in sorted(rows, key=len, reverse=True):
        if slices[-1] and tokens + len(row) > SLICE_TOKENS:
            slices.append([])
            tokens = 0
        slices[-1].append(row)
        tokens += len(row)
    return slices
