"""Answers as bytes: arrays go into JSON as they are, without a list or a model between."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from starlette.responses import Response

_LITTLE_ENDIAN = {4: "<f4", 2: "<f2"}


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON; arrays within it, C-contiguous ones, become lists of the shortest numbers that are read as the same."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")


def base64_of(row: npt.NDArray[Any]) -> str:
    """The bytes of a vector, little-endian, in base64."""
    if row.dtype.kind == "f":
        row = row.astype(_LITTLE_ENDIAN[row.dtype.itemsize], copy=False)
    return binascii.b2a_base64(np.ascontiguousarray(row).data, newline=False).decode()
