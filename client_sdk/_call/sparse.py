"""Sparse vectors, and how replies become them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from client_sdk._call.collect import finite_rows
from client_sdk._call.job import AnswerKind
from client_sdk._errors import ClientError, ServerError
from client_sdk._transport.base import Arrays


class SparseVector(NamedTuple):
    """The words of one text that weigh something, the heaviest first, and their weights: T of each."""

    indices: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SparseVectors(Sequence[SparseVector]):
    """Vectors of N texts over a vocabulary, of which most numbers are 0; a sequence of `SparseVector`.

    Attributes:
        indices: [N, K] int32: the words of each text, the heaviest first; -1 behind them where another has more.
        weights: [N, K] float32: theirs; 0 there.
        dimension: How many words there are.
    """

    indices: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    dimension: int

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """How many words each text has: [N] int64."""
        lengths: npt.NDArray[np.int64] = (self.indices >= 0).sum(axis=1)
        return lengths

    def __len__(self) -> int:
        """How many texts."""
        return len(self.indices)

    @overload
    def __getitem__(self, place: int) -> SparseVector: ...

    @overload
    def __getitem__(self, place: slice) -> SparseVectors: ...

    def __getitem__(self, place: int | slice) -> SparseVector | SparseVectors:
        """One text's vector, or those of several texts."""
        indices, weights = self.indices[place], self.weights[place]
        if isinstance(place, slice):
            return SparseVectors(indices, weights, self.dimension)
        there = indices >= 0
        return SparseVector(indices[there], weights[there])

    def to_scipy(self) -> Any:
        """As scipy.sparse.csr_array [N, dimension] of float32, the words of each row ascending.

        Raises:
            ClientError: scipy is not installed.
        """
        try:
            from scipy.sparse import csr_array  # type: ignore[import-untyped]
        except ImportError as error:
            raise ClientError(f"to_scipy() needs scipy ({error}): pip install scipy") from None
        there = self.indices >= 0
        starts = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
        array = csr_array((self.weights[there], self.indices[there], starts), (len(self), self.dimension))
        array.sort_indices()
        return array


class SparseRows:
    """Sparse vectors of texts, from replies each as wide as its own."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._vectors: dict[int, SparseVector] = {}

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Keep the rows of a reply."""
        indices, weights = reply.get("INDICES"), finite_rows(reply, "WEIGHTS", positions)
        if indices is None or indices.shape != weights.shape:
            found = "nothing" if indices is None else f"shape {indices.shape}"
            raise ServerError(f"expected INDICES of shape {weights.shape} in the reply, and found {found}")
        there = indices >= 0
        for position, words, values, real in zip(positions, indices, weights, there, strict=True):
            self._vectors[position] = SparseVector(words[real], values[real])

    def result(self) -> SparseVectors:
        """All, in the caller's order."""
        count, width = len(self._vectors), max(len(vector.indices) for vector in self._vectors.values())
        indices, weights = np.full((count, width), -1, np.int32), np.zeros((count, width), np.float32)
        for position, vector in self._vectors.items():
            indices[position, : len(vector.indices)] = vector.indices
            weights[position, : len(vector.weights)] = vector.weights
        return SparseVectors(indices, weights, self._dimension)

    def only(self) -> SparseVector:
        """The vector of a single text."""
        return self._vectors[0]


def sparse_vectors(dimension: int, identity: str | None) -> AnswerKind[SparseVectors]:
    """One sparse vector a text, of the model of so many words that has this identity."""
    return AnswerKind("_sparse", ("INDICES", "WEIGHTS"), lambda _: SparseRows(dimension), identity)
