"""Rows as JSON, for stores that keep it beside a vector."""

from __future__ import annotations

import base64
import datetime
import math
from typing import Any

import pyarrow as pa

from client_sdk._errors import InvalidArgument


def payloads(columns: pa.RecordBatch, names: list[str]) -> list[dict[str, Any]]:
    """Each row's columns of these names: times in ISO 8601, bytes in base64, NaN and infinity as null."""
    if not names:
        return [{} for _ in range(columns.num_rows)]
    lists = [_values(name, columns.column(name)) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]


def _values(name: str, column: pa.Array) -> list[Any]:
    values = of_python(name, column)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind):
        return values
    return [jsonable(value) for value in values]


def of_python(name: str, column: pa.Array) -> list[Any]:
    """The values of a column; times of nanoseconds, which Python does not have, cut to microseconds.

    Raises:
        InvalidArgument: One is a date or a time of a year that Python does not have.
    """
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except (OverflowError, ValueError) as error:
        raise InvalidArgument(
            f"column {name!r} has a {kind} that Python has no value for, such as one of a year beyond 9999: {error}"
        ) from None


def jsonable(value: Any) -> Any:
    """A value of pyarrow's `to_pylist` as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: jsonable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(inner) for inner in value]
    return str(value)
