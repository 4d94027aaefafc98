"""Vectors of tokens with padding around them, as one array."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from client_sdk._call.collect import TokenVectors


def padded(items: list[TokenVectors], length: int | None) -> npt.NDArray[np.float32]:
    """[N, T, D], zero behind each text's own vectors; T is `length`, or the longest."""
    length = length or max(len(item.vectors) for item in items)
    array = np.zeros((len(items), length, items[0].vectors.shape[1]), np.float32)
    for row, item in zip(array, items, strict=True):
        row[: len(item.vectors)] = item.vectors
    return array


def joined(arrays: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """One array of several results; [N, T, D] are padded to the longest T."""
    if arrays[0].ndim == 3:
        length = max(array.shape[1] for array in arrays)
        arrays = [np.pad(array, ((0, 0), (0, length - array.shape[1]), (0, 0))) for array in arrays]
    return np.concatenate(arrays)
