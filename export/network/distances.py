"""What depends on how far two tokens of a row are apart: tables by distance, and how they become matrices.

A table by distance has an entry for each j - i, of tokens i and j, from -(longest - 1) to longest - 1, and one more,
which is never read. As matrix it is [longest, longest], row i, column j.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.network.architectures.encoder import Disentangled
from export.network.graph import Graph
from export.network.layout import LOWEST

Indices = npt.NDArray[np.int64]


def t5_buckets(longest: int, buckets: int, furthest: int = 128) -> Indices:
    """Return the bucket of each distance in texts of up to `longest` tokens: [2 * longest].

    As MPNetEncoder.relative_position_bucket has it, in FP32: half of the buckets for tokens behind, half for tokens
    before; the nearest half of each have a bucket of their own, others share one by the logarithm of their distance.
    """
    distance = np.arange(1 - longest, longest + 1)
    side = buckets // 2
    exact = side // 2
    far = np.maximum(np.abs(distance), 1).astype(np.float32)
    shared = np.log(far / np.float32(exact)) / np.float32(np.log(furthest / exact)) * np.float32(side - exact)
    shared = np.minimum(exact + shared.astype(np.int64), side - 1)
    found: Indices = np.where(np.abs(distance) < exact, np.abs(distance), shared) + side * (distance > 0)
    return found


def deberta_rows(longest: int, attention: Disentangled) -> Indices:
    """Return the row of the embeddings of each distance, in texts of up to `longest` tokens: [2 * longest].

    As make_log_bucket_position of transformers' DeBERTa-v2 has it, in FP32; its distances are i - j.
    """
    distance = -np.arange(1 - longest, longest + 1)
    bucket = distance
    if attention.buckets:
        middle = attention.span // 2
        far = np.maximum(np.abs(distance), middle - 1).astype(np.float32)
        ratio = np.log(far / np.float32(middle)) / np.log(np.float32((attention.furthest - 1) / middle))
        shared = np.ceil(ratio * np.float32(middle - 1)) + middle
        bucket = np.where(far <= middle, distance, np.sign(distance) * shared.astype(np.int64))
    rows: Indices = np.clip(bucket + attention.span, 0, 2 * attention.span - 1)
    return rows


class Distances:
    """Matrices of tables by distance, for the rows of a run."""

    def __init__(self, g: Graph, longest: str, furthest: int) -> None:
        """`longest` is INT64 [1], of the rows, at most `furthest`, for which the tables are."""
        self._g = g
        self._longest = longest
        one, none = g.constant([1]), g.constant([0])
        middle = g.constant([furthest])
        self._start, self._end = g.op("Sub", middle, longest), g.op("Add", middle, longest)
        twice = g.op("Add", longest, longest)
        columns = g.op("Max", g.op("Sub", twice, one), none)
        self._flat = g.op("Mul", longest, twice)
        self._skipped = g.op("Max", g.op("Sub", longest, one), none)
        self._kept = g.op("Add", self._skipped, g.op("Mul", longest, columns))
        self._columns = columns

    def of_run(self, table: str) -> str:
        """Return the entries of a table [2 * furthest, ...] that the rows of this run need: [2 * longest, ...]."""
        g = self._g
        return g.op("Slice", table, self._start, self._end, g.constant([0]))

    def matrix(self, table: str) -> str:
        """Return a table [2 * furthest] as matrix."""
        g, zero, one = self._g, self._g.constant(0), self._g.constant(1)
        places = g.op("Range", zero, g.op("Squeeze", self._longest), one)
        distance = g.op("Sub", g.op("Unsqueeze", places, g.constant([0])), g.op("Unsqueeze", places, g.constant([1])))
        return g.op("Gather", table, g.op("Add", distance, g.op("Add", self._start, self._skipped)))

    def skewed(self, x: str) -> str:
        """Return of [rows, heads, longest, 2 * longest], each row i by distance, the matrices.

        In the numbers of a matrix one after the other, rows that are one shorter begin one place later in each.
        """
        g = self._g
        sizes = g.op("Slice", g.op("Shape", x), g.constant([0]), g.constant([2]))
        flat = g.op("Reshape", x, g.op("Concat", sizes, self._flat, axis=0), allowzero=1)
        flat = g.op("Slice", flat, self._skipped, self._kept, g.constant([2]))
        shape = g.op("Concat", sizes, self._longest, self._columns, axis=0)
        matrices = g.op("Reshape", flat, shape, allowzero=1)
        return g.op("Slice", matrices, g.constant([0]), self._longest, g.constant([3]))


def band(g: Graph, rows: str, columns: str, window: int) -> str:
    """Return FP32 [rows, columns] to add to scores: 0 for places at most `window` apart, and `LOWEST` for others.

    Args:
        g: The graph.
        rows: INT64 [rows], the places of tokens that attend.
        columns: INT64 [columns], of those attended to.
        window: How far they see.
    """
    apart = g.op("Sub", g.op("Unsqueeze", rows, g.constant([1])), g.op("Unsqueeze", columns, g.constant([0])))
    is_near = g.op("LessOrEqual", g.op("Abs", apart), g.constant(window))
    return g.op("Where", is_near, g.constant(0, np.float32), g.constant(LOWEST, np.float32))
