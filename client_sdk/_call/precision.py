"""The number types that vectors may have, converted as sentence-transformers' `quantize_embeddings` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from client_sdk._errors import InvalidArgument, InvalidType

PRECISIONS: dict[str, npt.DTypeLike] = {
    "float32": np.float32,
    "float16": np.float16,
    "int8": np.int8,
    "uint8": np.uint8,
    "binary": np.int8,
    "ubinary": np.uint8,
}
"""And the type of their numbers."""

WITH_RANGES = ("int8", "uint8")
"""Those whose numbers are steps of a range: the caller's, or the one that the model's export has measured."""

Converter = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]
"""[N, D] float32 to [N, D], or to [N, D / 8] where eight numbers share a byte."""


def converter(precision: str, ranges: npt.ArrayLike | None, *, learns: bool = False) -> Converter:
    """What makes vectors of this precision; `ranges` are for int8 and uint8, which need them.

    It raises InvalidArgument for vectors that have no such form. One that learns is a `Scalar` without ranges where
    these are needed and not given: it is told them before it is used.

    Raises:
        InvalidArgument: Another precision, or ranges that are missing, not needed, or no ranges.
        InvalidType: Ranges that are not numbers.
    """
    if not isinstance(precision, str):
        raise InvalidType(f"precision must be a str, not {type(precision).__name__}")
    if precision not in PRECISIONS:
        raise InvalidArgument(f"precision {precision!r} is not known; allowed: {', '.join(PRECISIONS)}")
    if precision in WITH_RANGES:
        if ranges is None and not learns:
            raise InvalidArgument(
                f"precision={precision!r} needs ranges, the least and the largest value of each number of a vector, "
                "from vectors of texts like yours: ranges=numpy.stack([vectors.min(axis=0), vectors.max(axis=0)])"
            )
        return Scalar(precision, ranges)
    if ranges is not None:
        raise InvalidArgument(f"ranges are for precision int8 and uint8, and this is {precision}")
    return _CONVERTERS[precision]


def _checked(ranges: Any) -> npt.NDArray[np.float32]:
    try:
        array = np.asarray(ranges, np.float32)
    except (TypeError, ValueError):
        raise InvalidType(f"ranges must be numbers, [2, D] float32, not {type(ranges).__name__}") from None
    if array.ndim != 2 or len(array) != 2 or array.shape[1] == 0:
        raise InvalidArgument(f"ranges must be [2, D]: the least and the largest values, not of shape {array.shape}")
    if not (np.isfinite(array).all() and (array[0] <= array[1]).all()):
        raise InvalidArgument("ranges must be finite, and no least value above its largest")
    return array


class Scalar:
    """Each number as one of 256 steps of its range; what lies outside is at its end."""

    def __init__(self, precision: str, ranges: npt.ArrayLike | None) -> None:
        """`ranges` may be learned later. Raises as `converter`."""
        self.precision = precision
        self.has_ranges = False
        if ranges is not None:
            self.learn(_checked(ranges))

    def learn(self, ranges: npt.NDArray[np.float32]) -> None:
        """Take the ranges, [2, D], which are needed before any vector comes."""
        self._starts = ranges[0]
        steps = (ranges[1] - ranges[0]) / np.float32(255)
        self._steps = np.where(steps == 0, np.float32(1), steps)
        self.has_ranges = True

    def __call__(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        if vectors.shape[1] != len(self._starts):
            raise InvalidArgument(
                f"ranges are of {len(self._starts)} numbers, and the vectors have {vectors.shape[1]}: were they taken "
                "from vectors of the same model and options?"
            )
        levels: npt.NDArray[np.float32] = np.clip(np.floor((vectors - self._starts) / self._steps), 0, 255)
        return (levels - np.float32(128)).astype(np.int8) if self.precision == "int8" else levels.astype(np.uint8)


def _half(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = vectors.astype(np.float16)
    fits = np.isfinite(half).all(axis=1)
    if not fits.all():
        row = int(np.argmin(fits))
        raise InvalidArgument.of_text(
            row,
            f": its vector has a number of size {np.abs(vectors[row]).max():g}, and float16 ends at 65504: take "
            "normalize=True, or another precision",
        )
    return half


def _bits(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.packbits(vectors > 0, axis=-1)


def _signed_bits(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    return (_bits(vectors) ^ np.uint8(128)).view(np.int8)  # less 128


_CONVERTERS: dict[str, Converter] = {
    "float32": lambda vectors: vectors,
    "float16": _half,
    "binary": _signed_bits,
    "ubinary": _bits,
}
