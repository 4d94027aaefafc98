"""Files of lines, packed or not: JSON, CSV and text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import IO, Any

import pyarrow as pa

from client_sdk.corpus.places import Place
from client_sdk.corpus.readers.reader import Columns, Head, Rows, check_there, failures_named
from client_sdk.corpus.readers.values import as_bytes, column_of, type_of

PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
"""Ends of names, and how such a file is unpacked."""

_LONGEST_LINE = 16 << 20
"""Bytes; the rest of a longer line is passed over, and not held."""

_LOOKED_AT = 1000  # rows whose types say what a column of JSON is

_BEGINNING = 8 << 20  # bytes of lines that are looked at

Parsed = Iterator[dict[str, Any] | str]
"""Of each row a value for each column, or a problem."""


class Lines:
    """Rows that are objects of Python.

    Args:
        parse: What makes rows of an open file of this name.
        header: What makes the names of columns of it, if its first row has them.
    """

    def __init__(
        self, parse: Callable[[IO[bytes], str], Parsed], header: Callable[[IO[bytes], str], list[str]] | None = None
    ) -> None:
        self._parse = parse
        self._header = header

    @property
    def has_header(self) -> bool:
        """Whether a file says which columns all its rows have."""
        return self._header is not None

    def head(self, file: Place, names: Sequence[str]) -> Head:
        """By the first rows."""
        with failures_named(file), _stream(file) as stream:
            if self._header is not None:
                if there := self._header(stream, file.path):
                    check_there(file, there, names)
                return Head(there, {name: pa.string() for name in names if there})
            rows = list(islice(self._parse(stream, file.path), _LOOKED_AT))
        found = [row for row in rows if isinstance(row, dict)]
        problem = next((row for row in rows if isinstance(row, str)), None)
        there = list(dict.fromkeys(name for row in found for name in row))
        types = {name: type_of(row.get(name) for row in found) for name in names if name in there}
        return Head(there, types, problem=None if found else problem)

    def row_bytes(self, file: Place) -> float:
        """By the lines of its beginning."""
        with failures_named(file), file.filesystem.open_input_file(file.path) as whole:
            packed = _packed(file)
            stream = pa.CompressedInputStream(whole, packed) if packed else whole
            rows = stream.read(_BEGINNING).count(b"\n")
            return float(whole.tell() / max(1, rows))

    def read(self, file: Place, columns: Columns, rows_per_block: int) -> Iterator[Rows]:
        """As many rows a time as are asked for."""
        first = 0
        with failures_named(file), _stream(file) as stream:
            parsed = self._parse(stream, file.path)
            while rows := list(islice(parsed, rows_per_block)):
                problems: list[str | None] = [row if isinstance(row, str) else None for row in rows]
                found = [{} if isinstance(row, str) else row for row in rows]
                texts = [_text(row.get(columns.text), problems, index) for index, row in enumerate(found)]
                kept = [
                    column_of([row.get(field.name) for row in found], field, problems, is_id=field.name == columns.id)
                    for field in columns.kept
                ]
                yield Rows(first, texts, problems, kept)
                first += len(rows)


def json_rows(stream: IO[bytes], name: str) -> Parsed:
    """An object a line."""
    for line, problem in _lines(stream):
        if problem is not None:
            yield problem
            continue
        try:
            row = json.loads(line) if line.strip() else None
        except UnicodeDecodeError as error:
            yield f"the line is not UTF-8: {error.reason}"
        except (ValueError, RecursionError) as error:
            yield f"the line is no JSON: {error}"
        else:
            yield row if isinstance(row, dict) else f"the line is {_kind(row)}, not a JSON object"


def csv_header(stream: IO[bytes], name: str) -> list[str]:
    """The names of the columns, in the first row that is not blank; none of an empty file."""
    return next(filter(None, _csv(stream, name)), [])


def csv_rows(stream: IO[bytes], name: str) -> Parsed:
    """Those behind the header."""
    rows = _csv(stream, name)
    names = next(filter(None, rows), [])
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield f"the row is no CSV: {error}"
            continue
        if len(row) == len(names):
            yield dict(zip(names, row, strict=True))
        else:
            yield f"the row has {len(row)} fields, and the header {len(names)}"


def text_rows(stream: IO[bytes], name: str) -> Parsed:
    """A text a line."""
    for number, (line, problem) in enumerate(_lines(stream)):
        yield problem or {"text": line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line}


def _csv(stream: IO[bytes], name: str) -> Iterator[list[str]]:
    # Each side of `surrogateescape` gives back the bytes that were there, and those are looked at later.
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(_LONGEST_LINE)
    return csv.reader(text, delimiter="\t" if unpacked(name).endswith(".tsv") else ",")


def unpacked(name: str) -> str:
    """A name in lower case, without the end that says how the file is packed."""
    name = name.lower()
    for end in PACKED:
        name = name.removesuffix(end)
    return name


def _packed(file: Place) -> str | None:
    return next((codec for end, codec in PACKED.items() if file.path.lower().endswith(end)), None)


def _stream(file: Place) -> io.BufferedReader:
    return io.BufferedReader(file.filesystem.open_input_stream(file.path, compression=_packed(file)), 1 << 20)


def _lines(stream: IO[bytes]) -> Iterator[tuple[bytes, str | None]]:
    """Each line without its end, and what is wrong with it."""
    while line := stream.readline(_LONGEST_LINE + 1):
        if len(line) <= _LONGEST_LINE or line.endswith(b"\n"):
            yield line.rstrip(b"\r\n"), None
            continue
        while (rest := stream.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass
        yield b"", f"the line is longer than {_LONGEST_LINE >> 20} MiB"


def _text(value: Any, problems: list[str | None], index: int) -> bytes | None:
    if isinstance(value, str):
        return as_bytes(value)
    if value is None or isinstance(value, bytes):
        return value
    problems[index] = problems[index] or f"the text is {_kind(value)}"
    return None


def _kind(value: Any) -> str:
    if value is None:
        return "blank"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")
