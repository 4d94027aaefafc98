"""How well documents answer a query by late interaction, as ColBERT does: computed here, of vectors of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from client_sdk._errors import InvalidArgument, InvalidType

TokenArray = npt.NDArray[np.float32]
"""[T, D]: a vector for each token of a text."""

_QUERY_TOKENS = 1024
_DOCUMENT_TOKENS = 1 << 15
_PRODUCTS = 1 << 22
"""Tokens, and products of tokens, of what is computed at once beside the result."""

_NOTHING = np.float32(-1e9)  # of a document without tokens, as in sentence-transformers


def maxsim(query: Any, documents: Any, *, mean: bool = False) -> npt.NDArray[np.float32]:
    """How well each document answers a query: the sum, over the query's tokens, of its product with the nearest token.

    As sentence-transformers' and PyLate's `maxsim`, of vectors that `encode_multi` gives.

    Args:
        query: [T, D], or a list of them.
        documents: A list of [T, D], each of as many tokens as it has; or [N, T, D].
        mean: Whether sums are divided by the number of the query's tokens, which makes those of unlike queries
            comparable (`meanmaxsim`).

    Returns:
        [N] float32, larger for better ones; for a list of Q queries [Q, N].

    Raises:
        InvalidArgument: No query or no documents, vectors of unlike lengths, or numbers that are not finite.
        InvalidType: Vectors that are not of floating-point numbers.
    """
    queries, found = _texts("query", query), _texts("documents", documents)
    width = queries[0].shape[1]
    for name, texts in (("query", queries), ("documents", found)):
        for index, text in enumerate(texts):
            if text.shape[1] != width:
                raise InvalidArgument(
                    f"{name} {index} has vectors of {text.shape[1]} numbers, and query 0 of {width}: are both of "
                    "a model?"
                )
    scores = np.empty((len(queries), len(found)), np.float32)
    lengths = [len(text) for text in queries]
    with np.errstate(over="ignore", invalid="ignore"):  # said below
        for start, end in _cut(lengths, _QUERY_TOKENS):
            _score(queries[start:end], found, scores[start:end])
    if mean:
        scores /= np.maximum(np.array(lengths, np.float32), 1)[:, np.newaxis]
    if not np.isfinite(scores).all():
        raise InvalidArgument("query or documents have numbers so large that their products are not finite")
    return scores[0] if _is_one(query) else scores


def _score(queries: Sequence[TokenArray], documents: Sequence[TokenArray], scores: npt.NDArray[np.float32]) -> None:
    """Write [Q, N]."""
    tokens = np.concatenate(queries)
    room = max(1, min(_DOCUMENT_TOKENS, _PRODUCTS // max(1, len(tokens))))
    for start, end in _cut([len(text) for text in documents], room):
        products = tokens @ np.concatenate(documents[start:end]).T
        best = _reduced(np.maximum, products, documents[start:end], 1, _NOTHING)
        scores[:, start:end] = _reduced(np.add, best, queries, 0, np.float32(0))
        empty = [index for index in range(start, end) if not len(documents[index])]
        scores[:, empty] = _NOTHING


def _reduced(
    how: np.ufunc, numbers: npt.NDArray[np.float32], texts: Sequence[TokenArray], axis: int, nothing: np.float32
) -> npt.NDArray[np.float32]:
    """One number for each text of those that its tokens have along an axis; `nothing` for a text without tokens."""
    lengths = np.array([len(text) for text in texts])
    there = lengths > 0
    shape = list(numbers.shape)
    shape[axis] = len(texts)
    result = np.full(shape, nothing, np.float32)
    if there.any():
        places = (slice(None),) * axis + (there,)
        result[places] = how.reduceat(numbers, (np.cumsum(lengths) - lengths)[there], axis=axis)
    return result


def _cut(lengths: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Where runs of texts begin and end that have no more tokens than that, or one text."""
    start = tokens = 0
    for index, length in enumerate(lengths):
        if index > start and tokens + length > most:
            yield start, index
            start, tokens = index, 0
        tokens += length
    yield start, len(lengths)


def _is_one(value: Any) -> bool:
    return getattr(value, "ndim", None) == 2  # PyTorch's tensors have it too


def _texts(name: str, value: Any) -> list[TokenArray]:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise InvalidType(f"{name} must be arrays [T, D] of encode_multi(), not {type(value).__name__}")
    texts = [value] if _is_one(value) else list(value)
    if not texts:
        raise InvalidArgument(f"{name} is empty: give one at least")
    return [_text(f"{name} {index}", text) for index, text in enumerate(texts)]


def _text(name: str, value: Any) -> TokenArray:
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unlike lengths
        raise InvalidArgument(f"{name} must be an array [T, D], a vector for each token") from None
    if array.ndim != 2:
        raise InvalidArgument(f"{name} must be an array [T, D], a vector for each token, not of shape {array.shape}")
    if array.dtype.kind != "f":
        raise InvalidType(f"{name} must be of floating-point numbers, not {array.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        array = array.astype(np.float32, copy=False)
        # Where a number is not finite a sum is neither, and takes no memory.
        is_finite = np.isfinite(array.sum()) or np.isfinite(array).all()
    if not is_finite:
        raise InvalidArgument(f"{name} has numbers that are not finite (NaN or infinity)")
    return array
