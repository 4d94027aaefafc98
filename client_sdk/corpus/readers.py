"""The formats of input: rows with a text, and the columns to copy. What is wrong with a row is said of it alone."""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from client_sdk._errors import InvalidArgument
from client_sdk.corpus.places import Place, name_of

_LONGEST_LINE = 16 << 20
"""Bytes; the rest of a longer line is passed over, and not held."""

_LOOKED_AT = 1000  # rows of JSON whose types say what a column is

_BEGINNING = 8 << 20  # bytes of lines that are looked at

_PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}  # what pyarrow unpacks by the name


@dataclass(frozen=True)
class Columns:
    """What is read of each row."""

    text: str
    kept: tuple[pa.Field, ...]


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

    def count(self, file: Place) -> int | None:
        """The rows of a file, where it says that itself."""
        ...

    def row_bytes(self, file: Place) -> float:
        """What a row takes in the file, about, by its beginning."""
        ...

    def columns(self, file: Place, text: str, kept: tuple[str, ...]) -> Columns:
        """The types of a file's columns; raises InvalidArgument."""
        ...

    def read(self, file: Place, columns: Columns, rows_per_block: int) -> Iterator[Rows]:
        """All rows, in order; raises InvalidArgument for a file that is not of the format."""
        ...


class _Parquet:
    def count(self, file: Place) -> int | None:
        with _opened(file) as parquet:
            return int(parquet.metadata.num_rows)

    def row_bytes(self, file: Place) -> float:
        with _opened(file) as parquet:
            return float(file.info().size / max(1, parquet.metadata.num_rows))

    def columns(self, file: Place, text: str, kept: tuple[str, ...]) -> Columns:
        with _opened(file) as parquet:
            schema = parquet.schema_arrow
        _check_there(file, schema.names, (text, *kept))
        if not _holds_text(schema.field(text).type):
            raise InvalidArgument(f"{file.path}: column {text!r} is {schema.field(text).type}, and texts are string")
        return Columns(text, tuple(schema.field(name).remove_metadata() for name in kept))

    def read(self, file: Place, columns: Columns, rows_per_block: int) -> Iterator[Rows]:
        names = [columns.text, *(field.name for field in columns.kept)]
        first = 0
        with _opened(file) as parquet:
            _check_there(file, parquet.schema_arrow.names, names)
            if not _holds_text(parquet.schema_arrow.field(columns.text).type):
                found = parquet.schema_arrow.field(columns.text).type
                raise InvalidArgument(f"{file.path}: column {columns.text!r} is {found}, and texts are string")
            for batch in parquet.iter_batches(rows_per_block, columns=names):
                texts = _as_bytes(batch.column(columns.text))
                kept = [_cast(file, batch.column(field.name), field) for field in columns.kept]
                yield Rows(first, texts, [None] * len(texts), kept)
                first += len(texts)


class _Lines:
    """Rows that are objects of Python: `parse` makes of an open file a value for each column, or a problem."""

    def __init__(self, parse: Callable[[IO[bytes], str], Iterator[dict[str, Any] | str]]) -> None:
        self._parse = parse

    def count(self, file: Place) -> int | None:
        return None

    def row_bytes(self, file: Place) -> float:
        with file.filesystem.open_input_file(file.path) as whole:
            packed = next((codec for end, codec in _PACKED.items() if file.path.lower().endswith(end)), None)
            stream = pa.CompressedInputStream(whole, packed) if packed else whole
            rows = stream.read(_BEGINNING).count(b"\n")
            return float(whole.tell() / max(1, rows))

    def columns(self, file: Place, text: str, kept: tuple[str, ...]) -> Columns:
        with _stream(file) as stream:
            rows = [row for row in islice(self._parse(stream, file.path), _LOOKED_AT) if isinstance(row, dict)]
        names = list(dict.fromkeys(name for row in rows for name in row))
        if rows:
            _check_there(file, names, (text, *kept))
        return Columns(text, tuple(pa.field(name, _type_of(row.get(name) for row in rows)) for name in kept))

    def read(self, file: Place, columns: Columns, rows_per_block: int) -> Iterator[Rows]:
        first = 0
        with _stream(file) as stream:
            parsed = self._parse(stream, file.path)
            while rows := list(islice(parsed, rows_per_block)):
                problems: list[str | None] = [row if isinstance(row, str) else None for row in rows]
                found = [{} if isinstance(row, str) else row for row in rows]
                texts = [_text(row.get(columns.text), problems, index) for index, row in enumerate(found)]
                kept = [_column(found, field, problems) for field in columns.kept]
                yield Rows(first, texts, problems, kept)
                first += len(rows)


class _Formats:
    def __init__(self, readers: dict[str, Reader]) -> None:
        self._readers = readers

    @property
    def listed(self) -> str:
        return ", ".join(self._readers) + " (those of lines also with .gz, .bz2, .zst, .lz4)"

    def of(self, path: str) -> Reader | None:
        name = path.lower()
        for packed in _PACKED:
            name = name.removesuffix(packed)
        reader = next((reader for end, reader in self._readers.items() if name.endswith(end)), None)
        return None if isinstance(reader, _Parquet) and name != path.lower() else reader


def _json_lines(stream: IO[bytes], name: str) -> Iterator[dict[str, Any] | str]:
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


def _csv(stream: IO[bytes], name: str) -> Iterator[dict[str, Any] | str]:
    # Each side of `surrogateescape` gives back the bytes that were there, and those are looked at later.
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(_LONGEST_LINE)
    rows = csv.reader(text, delimiter="\t" if ".tsv" in posixpath.basename(name).lower() else ",")
    names = next(rows, [])
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


def _text_lines(stream: IO[bytes], name: str) -> Iterator[dict[str, Any] | str]:
    for number, (line, problem) in enumerate(_lines(stream)):
        yield problem or {"text": line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line}


FORMATS = _Formats(
    {
        ".parquet": _Parquet(),
        ".pq": _Parquet(),
        ".jsonl": (_of_json := _Lines(_json_lines)),
        ".ndjson": _of_json,
        ".json": _of_json,
        ".csv": (_of_csv := _Lines(_csv)),
        ".tsv": _of_csv,
        ".txt": _Lines(_text_lines),
    }
)


def reader_of(path: str) -> Reader:
    """By the end of the name. Raises InvalidArgument."""
    reader = FORMATS.of(name_of(path))
    if reader is None:
        raise InvalidArgument(f"{path!r}: the name does not end as a format does that is known: {FORMATS.listed}")
    return reader


def _opened(file: Place) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file.filesystem.open_input_file(file.path), pre_buffer=False)
    except pa.ArrowInvalid as error:
        raise InvalidArgument(f"{file.path} is no Parquet file: {error}") from None


def _stream(file: Place) -> io.BufferedReader:
    return io.BufferedReader(file.filesystem.open_input_stream(file.path, compression="detect"), 1 << 20)


def _lines(stream: IO[bytes]) -> Iterator[tuple[bytes, str | None]]:
    """Each line without its end, and what is wrong with it."""
    while line := stream.readline(_LONGEST_LINE + 1):
        if len(line) <= _LONGEST_LINE or line.endswith(b"\n"):
            yield line.rstrip(b"\r\n"), None
            continue
        while (rest := stream.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass
        yield b"", f"the line is longer than {_LONGEST_LINE >> 20} MiB"


def _check_there(file: Place, names: Sequence[str], wanted: Iterable[str]) -> None:
    for name in wanted:
        if name not in names:
            raise InvalidArgument(f"{file.path} has no column {name!r}; it has {', '.join(names) or 'none'}")


def _holds_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        check(value)
        for check in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_null,
        )
    )


def _as_bytes(texts: pa.Array) -> list[bytes | None]:
    """Without asking whether it is UTF-8, which one wrong text would answer for all."""
    if pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_decode()
    return texts.cast(pa.large_binary()).to_pylist()  # type: ignore[no-any-return]


def _cast(file: Place, column: pa.Array, field: pa.Field) -> pa.Array:
    try:
        return column if column.type == field.type else column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidArgument(
            f"{file.path}: column {field.name!r} is {column.type}, and in the first file {field.type}: {error}"
        ) from None


def _text(value: Any, problems: list[str | None], index: int) -> bytes | None:
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # "\ud800" of JSON, which is no text in any encoding
            return value.encode("utf-8", "surrogatepass")
    if value is None or isinstance(value, bytes):
        return value
    problems[index] = problems[index] or f"the text is {_kind(value)}"
    return None


def _type_of(values: Iterable[Any]) -> pa.DataType:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds and kinds <= {int, float} else pa.string()


def _column(rows: list[dict[str, Any]], field: pa.Field, problems: list[str | None]) -> pa.Array:
    """Values of JSON or CSV; one that is not of the column's type is the row's problem."""
    kinds: dict[Any, Any] = {pa.bool_(): bool, pa.int64(): int, pa.float64(): (int, float)}
    fits = kinds.get(field.type, str)
    values: list[Any] = []
    for index, row in enumerate(rows):
        value = row.get(field.name)
        if fits is str and value is not None and not isinstance(value, str):
            value = json.dumps(value, ensure_ascii=False)
        is_wrong = value is not None and (not isinstance(value, fits) or (fits is not bool and value is True))
        if is_wrong or (fits is int and value is not None and not -(2**63) <= value < 2**63):
            problems[index] = problems[index] or (
                f"column {field.name!r} is {json.dumps(value)[:80]}, and it was {field.type} in the first rows"
            )
            value = None
        if isinstance(value, str):
            value = value.encode("utf-8", "replace").decode()
        values.append(value)
    return pa.array(values, field.type)


def _kind(value: Any) -> str:
    if value is None:
        return "blank"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")
