"""Batches of rows, as other engines hand them over: a column is read from one, and a column of vectors added.

What pandas, polars and pyarrow make is known without importing them: where one has not been imported, nothing is of it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping, Sequence
from copy import copy
from typing import Any, TypeVar

import numpy.typing as npt

from client_sdk._errors import InvalidArgument, InvalidType

B = TypeVar("B")

_COLUMNS = "a dict of columns, a DataFrame of pandas or polars, or a Table or RecordBatch of pyarrow"


def column(batch: object, name: str, replaced: str) -> Any:
    """The column `name` of a batch, as the batch has it; the rest is not looked at.

    Raises:
        InvalidArgument: There is no such column, or several; or several of the name `replaced`.
        InvalidType: No batch of a kind that is known.
    """
    values: Any = batch
    if isinstance(batch, Mapping):
        there: Sequence[Any] = [*batch]
    elif _is_of(batch, "pandas", "DataFrame") or _is_of(batch, "polars", "DataFrame"):
        there = [*values.columns]
    elif _is_arrow(batch):
        there = values.schema.names
    else:
        raise InvalidType(f"a batch must be {_COLUMNS}, not {type(batch).__name__}{_instead(batch)}")
    for wanted in (name, replaced):
        if there.count(wanted) > 1 or (wanted == name and name not in there):
            several = "several columns" if wanted in there else "no column"
            raise InvalidArgument(f"the batch has {several} {wanted!r}; there: {', '.join(map(str, there)) or 'none'}")
    return values.column(name) if _is_arrow(batch) else values[name]


def with_vectors(batch: B, name: str, vectors: npt.NDArray[Any]) -> B:
    """A batch of the same kind with the column `name` of [N, D] vectors, in place of one of that name.

    In a dict they are that array; in pandas a column of arrays [D]; in polars of Array(D), and in pyarrow of
    FixedSizeList[D], of the vectors' own number type.
    """
    rows: Any = batch
    if isinstance(batch, Mapping):
        others: Any = copy(batch) if isinstance(batch, MutableMapping) else dict(batch)
        others[name] = vectors  # a mapping may read its other columns when it is asked for them
        return others  # type: ignore[no-any-return]
    if _is_arrow(batch):
        arrow = sys.modules["pyarrow"]
        lists = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.reshape(-1)), vectors.shape[1])
        place = rows.schema.get_field_index(name)
        found = rows.append_column(name, lists) if place < 0 else rows.set_column(place, name, lists)
        return found  # type: ignore[no-any-return]
    if _is_of(batch, "polars", "DataFrame"):
        return rows.with_columns(sys.modules["polars"].Series(name, vectors))  # type: ignore[no-any-return]
    series = sys.modules["pandas"].Series([*vectors], index=rows.index, dtype=object)
    return rows.assign(**{name: series})  # type: ignore[no-any-return]


def _is_arrow(batch: object) -> bool:
    return _is_of(batch, "pyarrow", "Table", "RecordBatch")


def _is_of(value: object, package: str, *names: str) -> bool:
    module = sys.modules.get(package)
    return module is not None and isinstance(value, tuple(getattr(module, name) for name in names))


def _instead(batch: object) -> str:
    """What to write instead of what is no batch."""
    if hasattr(batch, "map_partitions"):
        return ": give the encoder to its map_partitions()"
    if hasattr(batch, "map_batches"):
        return ": give the encoder to its map_batches()"
    if hasattr(batch, "mapInArrow"):
        return ": see client_sdk.spark"
    if hasattr(batch, "column_names") and hasattr(batch, "map"):
        return ": give the encoder to its map(..., batched=True)"
    return ""
