"""The formats of input: rows with a text, and the columns to copy. What is wrong with a row is said of it alone."""

from client_sdk._errors import InvalidArgument
from client_sdk.corpus.places import name_of
from client_sdk.corpus.readers.lines import Lines, csv_header, csv_rows, json_rows, text_rows, unpacked
from client_sdk.corpus.readers.parquet import Parquet
from client_sdk.corpus.readers.reader import Columns, Head, Reader, Rows

__all__ = ["FORMATS", "Columns", "Head", "Reader", "Rows", "reader_of"]


class _Formats:
    def __init__(self, readers: dict[str, Reader]) -> None:
        self._readers = readers

    @property
    def listed(self) -> str:
        return ", ".join(self._readers) + " (those of lines also with .gz, .bz2, .zst, .lz4)"

    def of(self, path: str) -> Reader | None:
        name = unpacked(path)
        reader = next((reader for end, reader in self._readers.items() if name.endswith(end)), None)
        return None if isinstance(reader, Parquet) and name != path.lower() else reader


FORMATS = _Formats(
    {
        ".parquet": Parquet(),
        ".pq": Parquet(),
        ".jsonl": (_of_json := Lines(json_rows)),
        ".ndjson": _of_json,
        ".json": _of_json,
        ".csv": (_of_csv := Lines(csv_rows, csv_header)),
        ".tsv": _of_csv,
        ".txt": Lines(text_rows),
    }
)


def reader_of(path: str) -> Reader:
    """By the end of the name. Raises InvalidArgument."""
    reader = FORMATS.of(name_of(path))
    if reader is None:
        raise InvalidArgument(f"{path!r}: the name does not end as a format does that is known: {FORMATS.listed}")
    return reader
