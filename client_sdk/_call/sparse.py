"""Sparse vectors, and how replies become them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from client_sdk._call.collect import finite_rows
from client_sdk._call.kinds import AnswerKind
from client_sdk._errors import ClientError, InvalidArgument, InvalidType, ServerError
from client_sdk._kinds import SPARSE
from client_sdk._similarity import METRICS
from client_sdk._transport.base import Arrays

_LEAST = 1e-12  # a vector without words is like no other


class SparseVector(NamedTuple):
    """The words of one text that weigh something, the heaviest first, and their weights: T of each."""

    indices: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SparseVectors(Sequence[SparseVector]):
    """Vectors of N texts over a vocabulary, of which most numbers are 0; a sequence of `SparseVector`.

    Attributes:
        indices: [W] int32: the words of all texts, end to end, those of each the heaviest first.
        weights: [W] float32: theirs.
        lengths: [N] int64: how many words each text has.
        dimension: How many words there are.
    """

    indices: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]
    dimension: int

    def __len__(self) -> int:
        """How many texts."""
        return len(self.lengths)

    @overload
    def __getitem__(self, place: int) -> SparseVector: ...

    @overload
    def __getitem__(self, place: slice) -> SparseVectors: ...

    def __getitem__(self, place: int | slice) -> SparseVector | SparseVectors:
        """One text's vector, or those of several texts."""
        starts = self._starts
        if not isinstance(place, slice):
            start, end = starts[:-1][place], starts[1:][place]
            return SparseVector(self.indices[start:end], self.weights[start:end])
        places = np.arange(len(self))[place]
        chosen = _ranges(starts[places], self.lengths[places])
        return SparseVectors(self.indices[chosen], self.weights[chosen], self.lengths[places], self.dimension)

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        """Where each text's words begin, and where the last end: [N + 1]."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def similarity(self, other: SparseVector | Sequence[SparseVector], metric: str = "dot") -> npt.NDArray[np.float32]:
        """The similarity of each text to each of `other`, as sentence-transformers' SparseEncoder.similarity.

        Args:
            other: Vectors of `encode_sparse`, of the same model; or one, or a list of such.
            metric: `dot`, `cosine`, `euclidean` or `manhattan`, the last two negative distances.

        Returns:
            [N, M] float32, larger for nearer texts.

        Raises:
            InvalidArgument: Vectors over another vocabulary, or a metric that is not known.
            InvalidType: What are no sparse vectors.
        """
        return sparse_similarity(self, other, metric)

    def to_scipy(self) -> Any:
        """As scipy.sparse.csr_array [N, dimension] of float32, the words of each row ascending.

        Raises:
            ClientError: scipy is not installed.
        """
        try:
            from scipy.sparse import csr_array  # type: ignore[import-untyped]
        except ImportError as error:
            raise ClientError(f"to_scipy() needs scipy ({error}): pip install scipy") from None
        array = csr_array((self.weights, self.indices, self._starts), (len(self), self.dimension), copy=True)
        array.sort_indices()
        return array


Sparse = SparseVector | Sequence[SparseVector]
"""One sparse vector or several: `SparseVectors`, or a list."""

Comparable = npt.ArrayLike | Sparse
"""What may be compared: vectors of any kind."""


def is_sparse(value: object) -> bool:
    """Whether it is one sparse vector, or several."""
    several = isinstance(value, (list, tuple)) and len(value) > 0 and isinstance(value[0], SparseVector)
    return several or isinstance(value, (SparseVector, SparseVectors))


def sparse_similarity(a: Sparse, b: Sparse, metric: str | None) -> npt.NDArray[np.float32]:
    """The similarity of each of `a` to each of `b`: [N, M] float32. Raises as `SparseVectors.similarity`."""
    metric = "dot" if metric is None else metric
    if not isinstance(metric, str):
        raise InvalidType(f"metric must be str or None, not {type(metric).__name__}")
    if metric not in METRICS:
        raise InvalidArgument(f"metric {metric!r} is not known for sparse vectors; allowed: {', '.join(METRICS)}")
    one, other = _several("a", a), _several("b", b)
    if isinstance(a, SparseVectors) and isinstance(b, SparseVectors) and a.dimension != b.dimension:
        raise InvalidArgument(f"a is over {a.dimension} words and b over {b.dimension}: are both of a model?")
    weights = other.weights.astype(np.float64)
    rows = np.repeat(np.arange(len(other)), other.lengths)
    total = partial(np.bincount, rows, minlength=len(other))  # of what is said of each word, that of each text
    squares = total(weights**2)
    dense = np.zeros(1 + max(one.indices.max(initial=0), other.indices.max(initial=0)))
    found = np.empty((len(one), len(other)), np.float32)
    for result, vector in zip(found, one, strict=True):
        own = vector.weights.astype(np.float64)
        dense[vector.indices] = own
        met = dense[other.indices]  # of `a`, at the words of `b`
        if metric == "manhattan":
            result[:] = total(np.abs(met)) - np.abs(own).sum() - total(np.abs(weights - met))
        else:
            products = total(weights * met)
            if metric == "cosine":
                products = products / (max(np.sqrt((own**2).sum()), _LEAST) * np.maximum(np.sqrt(squares), _LEAST))
            elif metric == "euclidean":
                products = -np.sqrt(np.maximum((own**2).sum() - 2 * products + squares, 0))
            result[:] = products
        dense[vector.indices] = 0
    return found


def _several(name: str, value: Sparse) -> SparseVectors:
    if isinstance(value, SparseVectors):
        return value
    if not is_sparse(value):
        raise InvalidType(f"{name} must be of encode_sparse, as the other is, not {type(value).__name__}")
    vectors = [value] if isinstance(value, SparseVector) else value
    for index, vector in enumerate(vectors):
        if not isinstance(vector, SparseVector):
            raise InvalidType(f"{name}: vector {index} must be of encode_sparse, not {type(vector).__name__}")
    indices, weights = (np.concatenate(parts) for parts in zip(*vectors, strict=True))
    return SparseVectors(indices, weights, np.array([len(vector.indices) for vector in vectors]), 0)


def _ranges(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The numbers from each start on, as many as its length, end to end."""
    before = np.repeat(np.cumsum(lengths) - lengths, lengths)
    found: npt.NDArray[np.int64] = np.repeat(starts, lengths) - before + np.arange(len(before), dtype=np.int64)
    return found


def read_sparse(reply: Arrays, positions: Sequence[int], dimension: int) -> SparseVectors:
    """The vectors of a reply, which belong to the texts at `positions`. Raises ServerError for what is none."""
    indices, weights = reply.get("INDICES"), finite_rows(reply, "WEIGHTS", positions)
    if indices is None or indices.shape != weights.shape:
        found = "nothing" if indices is None else f"shape {indices.shape}"
        raise ServerError(f"expected INDICES of shape {weights.shape} in the reply, and found {found}")
    there = indices >= 0
    return SparseVectors(indices[there], weights[there], there.sum(axis=1), dimension)


class SparseRows:
    """Sparse vectors of texts, from replies each as wide as its own."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._pieces: list[tuple[Sequence[int], SparseVectors]] = []

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Keep the rows of a reply."""
        self._pieces.append((positions, read_sparse(reply, positions, self._dimension)))

    def result(self) -> SparseVectors:
        """All, in the caller's order."""
        lengths = np.zeros(sum(len(positions) for positions, _ in self._pieces), np.int64)
        for positions, piece in self._pieces:
            lengths[list(positions)] = piece.lengths
        starts = np.cumsum(lengths) - lengths
        indices, weights = np.empty(lengths.sum(), np.int32), np.empty(lengths.sum(), np.float32)
        while self._pieces:
            positions, piece = self._pieces.pop()
            places = _ranges(starts[list(positions)], piece.lengths)
            indices[places], weights[places] = piece.indices, piece.weights
        return SparseVectors(indices, weights, lengths, self._dimension)

    def only(self) -> SparseVector:
        """The vector of a single text."""
        return self.result()[0]


def sparse_vectors(dimension: int, identity: str | None) -> AnswerKind[SparseVectors]:
    """One sparse vector a text, of the model of so many words that has this identity."""
    return AnswerKind(SPARSE.role, ("INDICES", "WEIGHTS"), lambda _: SparseRows(dimension), identity)
