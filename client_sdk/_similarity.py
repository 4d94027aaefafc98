"""How near vectors are to each other, by the measure that a checkpoint was trained for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from client_sdk._errors import InvalidArgument, InvalidType
from client_sdk._maxsim import maxsim

_Vectors = npt.NDArray[np.float32]

_BLOCK_ROWS = 512
_BLOCK = 1 << 18
"""Vectors, and numbers, of what is computed at once beside the result."""

_LEAST_LENGTH = 1e-12  # a vector of zeros is like no other


def similarity_of(a: npt.ArrayLike, b: npt.ArrayLike, metric: str) -> _Vectors:
    """The similarity of each of `a` to each of `b`: [N, M] float32, larger for nearer ones.

    They are vectors, or by a metric of LATE texts, of which each is [T, D].

    Raises:
        InvalidArgument: Another metric, vectors of unlike or no length, or with numbers that are not finite.
        InvalidType: Vectors that are not of floating-point numbers.
    """
    if not isinstance(metric, str):
        raise InvalidType(f"metric must be str or None, not {type(metric).__name__}")
    if metric in LATE:
        return np.atleast_2d(maxsim(a, b, mean=metric == "meanmaxsim"))
    if metric not in METRICS:
        raise InvalidArgument(f"metric {metric!r} is not known; allowed: {', '.join((*METRICS, *LATE))}")
    one, other = _rows("a", a), _rows("b", b)
    if one.shape[1] != other.shape[1]:
        raise InvalidArgument(
            f"a has vectors of {one.shape[1]} numbers and b of {other.shape[1]}: are both of a model?"
        )
    return METRICS[metric](one, other)


def _rows(name: str, value: Any) -> _Vectors:
    try:
        array = np.asarray(value)
        if array.dtype == object and array.ndim == 1:  # a column of a frame, of which each is a vector
            array = np.asarray(list(array))
    except ValueError:  # rows of unlike lengths
        raise InvalidArgument(f"{name} must be one vector [D] or several [N, D], all of the same length") from None
    is_of_python = array.dtype == int and not isinstance(value, np.ndarray)  # who writes 1 means 1.0
    if array.dtype.kind != "f" and not is_of_python:
        raise InvalidType(
            f"{name} must be vectors of floating-point numbers, not {array.dtype}: compare those of encode() without "
            "precision, or of float16"
        )
    if array.ndim not in (1, 2) or array.size == 0:
        raise InvalidArgument(f"{name} must be one vector [D] or several [N, D], not of shape {array.shape}")
    rows: _Vectors = np.atleast_2d(array).astype(np.float32, copy=False)
    if not np.isfinite(rows).all():
        raise InvalidArgument(f"{name} has numbers that are not finite (NaN or infinity), which are near to nothing")
    return rows


def _cosine(a: _Vectors, b: _Vectors) -> _Vectors:
    return _dot(_unit(a), _unit(b))


def _unit(vectors: _Vectors) -> _Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: _Vectors = vectors / np.maximum(lengths, _LEAST_LENGTH)
    return scaled


def _dot(a: _Vectors, b: _Vectors) -> _Vectors:
    products: _Vectors = a @ b.T
    return products


def _euclidean(a: _Vectors, b: _Vectors) -> _Vectors:
    # |x - y|^2 = |x|^2 - 2xy + |y|^2, in float64: what is near each other is a small difference of large numbers.
    result = np.empty((len(a), len(b)), np.float32)
    for i in range(0, len(a), _BLOCK_ROWS):
        x = a[i : i + _BLOCK_ROWS].astype(np.float64)
        for j in range(0, len(b), _BLOCK_ROWS):
            y = b[j : j + _BLOCK_ROWS].astype(np.float64)
            squares = np.square(x).sum(axis=1)[:, np.newaxis] - 2 * (x @ y.T) + np.square(y).sum(axis=1)
            result[i : i + _BLOCK_ROWS, j : j + _BLOCK_ROWS] = -np.sqrt(np.maximum(squares, 0))
    return result


def _manhattan(a: _Vectors, b: _Vectors) -> _Vectors:
    result = np.empty((len(a), len(b)), np.float32)
    step = max(1, _BLOCK // b.shape[1])
    for start in range(0, len(b), step):
        columns = b[start : start + step]
        room = np.empty_like(columns)
        for row, found in zip(a, result, strict=True):
            np.abs(np.subtract(columns, row, out=room), out=room)
            np.sum(room, axis=1, out=found[start : start + step])
    return np.negative(result, out=result)


METRICS: dict[str, Callable[[_Vectors, _Vectors], _Vectors]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
"""As in sentence-transformers' similarity functions; the last two are negative distances."""

LATE = ("maxsim", "meanmaxsim")
"""Those of late interaction, between queries and documents."""
