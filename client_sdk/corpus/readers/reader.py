"""What every format has: the beginning of a file, and its rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from client_sdk._errors import ClientError, InvalidArgument
from client_sdk.corpus.places import Place


@dataclass(frozen=True)
class Columns:
    """What is read of each row."""

    text: str
    kept: tuple[pa.Field, ...]
    id: str | None = None
    """Which of those that are kept has the ids."""


@dataclass(frozen=True)
class Head:
    """What a file says of itself, or its first rows do."""

    names: Sequence[str]
    """Of its columns."""
    types: Mapping[str, pa.DataType]
    """Of those that are asked for and are there; null where nothing says it."""
    rows: int | None = None
    """How many it has, where it says that itself."""
    problem: str | None = None
    """Why none of its first rows has columns."""


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a file."""

    first: int
    """Which row of the file is the first, from 0."""
    texts: list[bytes | None]
    problems: list[str | None]
    """Why a row cannot be encoded, as far as reading tells."""
    kept: list[pa.Array]
    """The columns to copy."""


class Reader(Protocol):
    """A format."""

    @property
    def has_header(self) -> bool:
        """Whether a file says which columns all its rows have."""
        ...

    def head(self, file: Place, names: Sequence[str]) -> Head:
        """The beginning of a file; one with a header must have each of these columns, once.

        Raises:
            InvalidArgument: It has not, or is not of the format.
            ClientError: It cannot be read.
        """
        ...

    def row_bytes(self, file: Place) -> float:
        """What a row takes in the file, about, by its beginning."""
        ...

    def read(self, file: Place, columns: Columns, rows_per_block: int) -> Iterator[Rows]:
        """All rows, in order; raises ClientError for a file that cannot be read."""
        ...


@contextmanager
def failures_named(file: Place) -> Iterator[None]:
    """Raises ClientError, with the file's name, for what pyarrow says of one that cannot be read."""
    try:
        yield
    except (pa.ArrowException, OSError, csv.Error) as error:
        raise ClientError(f"{file.path} cannot be read: {error}") from None


def check_there(file: Place, names: Sequence[str], wanted: Iterable[str]) -> None:
    """Raise InvalidArgument if a column is not there, or there twice."""
    for name in wanted:
        if (times := names.count(name)) != 1:
            said = f"no column {name!r}" if not times else f"{times} columns {name!r}"
            raise InvalidArgument(f"{file.path} has {said}; it has {', '.join(names) or 'none'}")
