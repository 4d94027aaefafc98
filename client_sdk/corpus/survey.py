"""What the files of an input say of themselves, before a row of them is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from client_sdk._errors import InvalidArgument
from client_sdk.corpus.inputs import InputFile
from client_sdk.corpus.places import place
from client_sdk.corpus.readers import Columns, Head, reader_of
from client_sdk.corpus.readers.parquet import holds_text
from client_sdk.corpus.readers.values import is_text

_AT_A_TIME = 16  # files

_OF_ROWS = 16
"""So many of the files that say nothing of all their rows are looked at, at most."""


@dataclass(frozen=True)
class Survey:
    """What is known of all files."""

    columns: Columns
    """To read, with the types of the output."""
    rows: int | None
    """In all, where the files say it, as Parquet does."""


def survey(files: Sequence[InputFile], text: str, kept: Sequence[str], id_column: str | None = None) -> Survey:
    """Look at every file that says which columns all its rows have, and at others until the types are known.

    A column has the type of the first file that says one; of integers of several lengths it has int64.

    Raises:
        InvalidArgument: A column is not there, or of a type that it cannot be, or a file is not of its format.
    """
    names = list(dict.fromkeys((text, *kept)))
    heads = _heads(files, names)
    _check_there(heads, names)
    types = {name: _common(kind for _, kind in _said(heads, name)) for name in kept}
    _check_types(heads, types, text, id_column)
    counts = [heads[file].rows if file in heads else None for file in files]
    known = [count for count in counts if count is not None]
    columns = Columns(text, tuple(pa.field(name, kind) for name, kind in types.items()), id_column)
    return Survey(columns, sum(known) if len(known) == len(counts) else None)


def _heads(files: Sequence[InputFile], names: Sequence[str]) -> dict[InputFile, Head]:
    """In the order of the files."""

    def head(file: InputFile) -> Head:
        return reader_of(file.path).head(place(file.path), names)

    of_all_rows = [file for file in files if reader_of(file.path).has_header]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        found = dict(zip(of_all_rows, pool.map(head, of_all_rows), strict=True))
    for file in [file for file in files if file not in found][:_OF_ROWS]:
        if all(any(_said(found, name)) for name in names):
            break
        found[file] = head(file)
    return {file: found[file] for file in files if file in found}


def _said(heads: Mapping[InputFile, Head], name: str) -> Iterator[tuple[InputFile, pa.DataType]]:
    """The types that a column has, and where."""
    for file, head in heads.items():
        if (kind := head.types.get(name, pa.null())) != pa.null():
            yield file, kind


def _common(kinds: Iterable[pa.DataType]) -> pa.DataType:
    first, *others = list(dict.fromkeys(kinds)) or [pa.string()]
    return pa.int64() if pa.types.is_integer(first) and any(map(pa.types.is_integer, others)) else first


def _check_there(heads: Mapping[InputFile, Head], names: Sequence[str]) -> None:
    """Files that say it of all rows have been checked each."""
    with_names = [(file, head.names) for file, head in heads.items() if head.names]
    for name in names:
        if with_names and not any(name in there for _, there in with_names):
            file, there = with_names[0]
            raise InvalidArgument(f"{file.path} has no column {name!r}; it has {', '.join(there)}")
    problems = [(file, head.problem) for file, head in heads.items() if head.problem is not None]
    if problems and not with_names:
        file, problem = problems[0]
        raise InvalidArgument(f"{file.path}: no row of its beginning can be read; of the first {problem}")


def _check_types(
    heads: Mapping[InputFile, Head], types: Mapping[str, pa.DataType], text: str, id_column: str | None
) -> None:
    for file, kind in _said(heads, text):
        if not holds_text(kind) and reader_of(file.path).has_header:
            raise InvalidArgument(f"{file.path}: column {text!r} is {kind}, and texts are string")
    for name, wanted in types.items():
        first = None
        for file, kind in _said(heads, name):
            first = first or file.path
            if name == id_column and not (pa.types.is_integer(wanted) or is_text(wanted)):
                raise InvalidArgument(f"{file.path}: column {name!r} is {kind}, and ids are integers or strings")
            if not _becomes(kind, wanted):
                raise InvalidArgument(f"{file.path}: column {name!r} is {kind}, and in {first} {wanted}")


def _becomes(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of a type are taken as another; some may still not fit."""
    try:
        return bool(kind == wanted or pa.nulls(0, kind).cast(wanted).type == wanted)
    except pa.ArrowException:
        return False
