"""Files of Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from client_sdk._errors import InvalidArgument
from client_sdk.corpus.places import Place
from client_sdk.corpus.readers.reader import Columns, Head, Rows, check_there, failures_named
from client_sdk.corpus.readers.values import column_as


class Parquet:
    """The format."""

    has_header = True

    def head(self, file: Place, names: Sequence[str]) -> Head:
        """From its footer."""
        with _opened(file) as parquet:
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
        check_there(file, schema.names, names)
        return Head(schema.names, {name: _plain(schema.field(name).type) for name in names}, int(rows))

    def row_bytes(self, file: Place) -> float:
        """By its footer."""
        with _opened(file) as parquet:
            return float(file.info().size / max(1, parquet.metadata.num_rows))

    def read(self, file: Place, columns: Columns, rows_per_block: int) -> Iterator[Rows]:
        """A batch at a time."""
        names = list(dict.fromkeys([columns.text, *(field.name for field in columns.kept)]))
        first = 0
        with failures_named(file), _opened(file) as parquet:
            for batch in parquet.iter_batches(rows_per_block, columns=names):
                texts = _as_bytes(batch.column(columns.text))
                problems: list[str | None] = [None] * len(texts)
                kept = [
                    column_as(_decoded(batch.column(field.name)), field, problems, is_id=field.name == columns.id)
                    for field in columns.kept
                ]
                yield Rows(first, texts, problems, kept)
                first += len(texts)


def holds_text(kind: pa.DataType) -> bool:
    """Whether texts can be of this type."""
    checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_binary_view,
        pa.types.is_large_binary,
        pa.types.is_null,
    )
    return any(check(kind) for check in checks)


def _opened(file: Place) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file.filesystem.open_input_file(file.path), pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise InvalidArgument(f"{file.path} is no Parquet file: {error}") from None


def _plain(kind: pa.DataType) -> pa.DataType:
    """Of those of one meaning the one that every store and every function of Arrow takes."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.string() if pa.types.is_string_view(kind) else kind


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _as_bytes(texts: pa.Array) -> list[bytes | None]:
    """Without asking whether it is UTF-8, which one wrong text would answer for all."""
    texts = _decoded(texts)
    if pa.types.is_string_view(texts.type) or pa.types.is_binary_view(texts.type):
        texts = texts.cast(pa.binary_view()).cast(pa.large_binary())
    return texts.cast(pa.large_binary()).to_pylist()  # type: ignore[no-any-return]
