"""Triton's raw form of a tensor, in which both protocols carry texts and vectors."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from client_sdk._errors import ServerError

_DTYPES: dict[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
}


def pack_strings(strings: Iterable[bytes]) -> bytes:
    """Triton's raw form of a BYTES tensor: each element behind its length, four bytes, little-endian."""
    parts = []
    for string in strings:
        parts.append(len(string).to_bytes(4, "little"))
        parts.append(string)
    return b"".join(parts)


def unpack_strings(raw: bytes | memoryview) -> Iterator[bytes]:
    """The elements of a BYTES tensor in its raw form."""
    start = 0
    while start < len(raw):
        (length,) = struct.unpack_from("<I", raw, start)
        start += 4
        yield bytes(raw[start : start + length])
        start += length


def read_tensor(datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> npt.NDArray[Any]:
    """The tensor as an array: numbers as a read-only view, BYTES as an object array of bytes."""
    if datatype == "BYTES":
        return _bytes_array(list(unpack_strings(raw)), shape)
    if datatype not in _DTYPES:
        raise ServerError(f"an output of type {datatype} came, which no model of this project has")
    return np.frombuffer(raw, _DTYPES[datatype]).reshape(tuple(shape))


def _bytes_array(values: Sequence[bytes], shape: Sequence[int]) -> npt.NDArray[np.object_]:
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return array.reshape(tuple(shape))
