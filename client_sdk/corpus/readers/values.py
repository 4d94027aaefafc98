"""Columns that are copied, with one type in all files: a value that does not fit is the problem of its row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

_UNFIT = (pa.ArrowException, OverflowError, TypeError, ValueError)
"""What pyarrow says of values of another type."""

_SHOWN = 80  # characters of a value


def type_of(values: Iterable[Any]) -> pa.DataType:
    """Of a column of Python's values: bool, int64, double or string; null if there are none."""
    found = [value for value in values if value is not None]
    kinds = {type(value) for value in found}
    if not kinds:
        return pa.null()
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64() if all(-(2**63) <= value < 2**63 for value in found) else pa.string()
    return pa.float64() if kinds <= {int, float} else pa.string()


def is_text(kind: pa.DataType) -> bool:
    """Whether it is one of those of strings."""
    return any((pa.types.is_string(kind), pa.types.is_large_string(kind), pa.types.is_string_view(kind)))


def as_bytes(value: str) -> bytes:
    """Those that the file had where it was not UTF-8, or of half a surrogate pair, which is no text in any encoding."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def column_of(values: Sequence[Any], field: pa.Field, problems: list[str | None], *, is_id: bool) -> pa.Array:
    """Values of Python as a column of the field's type.

    Args:
        values: One of each row.
        field: Of the output.
        problems: Of the rows; a value that does not fit is null, and said here.
        is_id: Whether it is left out, rather than changed, where it is no text.
    """
    if is_text(field.type):
        return _of_strings([_string(value) for value in values], field, problems, is_id=is_id)
    return _fitted(values, lambda some: _array(some, field.type), field, problems)


def column_as(column: pa.Array, field: pa.Field, problems: list[str | None], *, is_id: bool) -> pa.Array:
    """A column as one of the field's type; as `column_of`."""
    if is_text(column.type):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            content = column.cast(pa.large_binary()).to_pylist()
            column = _of_strings(content, field.with_type(column.type), problems, is_id=is_id)
    if column.type == field.type:
        return column
    return _fitted(column, lambda some: some.cast(field.type), field, problems)


def _string(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return as_bytes(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {str}:
        return pa.array(values, pa.string()).cast(kind)
    if bool in kinds and not pa.types.is_boolean(kind):  # for Python it is a number too
        raise TypeError
    if pa.types.is_floating(kind):  # of an integer pyarrow takes those that are the same in it
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, kind)


def _fitted(values: Any, fit: Callable[[Any], pa.Array], field: pa.Field, problems: list[str | None]) -> pa.Array:
    """All at once; if that fails, each by itself."""
    try:
        return fit(values)
    except _UNFIT:
        pass
    pieces = []
    for row in range(len(values)):
        try:
            pieces.append(fit(values[row : row + 1]))
        except _UNFIT:
            value = values[row].as_py() if isinstance(values, pa.Array) else values[row]
            shown = json.dumps(value, default=str)[:_SHOWN]
            problems[row] = problems[row] or (
                f"column {field.name!r} is {shown}, and it was {field.type} in the first rows"
            )
            pieces.append(pa.nulls(1, field.type))
    return pa.concat_arrays(pieces)


def _of_strings(
    content: Sequence[bytes | None], field: pa.Field, problems: list[str | None], *, is_id: bool
) -> pa.Array:
    strings: list[str | None] = []
    for row, value in enumerate(content):
        string = None if value is None else value.decode("utf-8", "replace")
        if is_id and string is not None and string.encode() != value:  # two that differ would be one
            problems[row], string = problems[row] or f"the id is not UTF-8: {value!r:.{_SHOWN}}", None
        strings.append(string)
    return pa.array(strings, field.type)
