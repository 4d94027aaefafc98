"""A finished corpus, read: Parquet files in batches, and what made their vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from client_sdk._errors import InvalidArgument

KEY = "bert-on-triton"
"""Of what is kept about vectors, in the metadata of Parquet files and of stores."""

_READ_ROWS = 1024
_OF_NO_VECTOR = {"identity", "model", "precision", "text_column", "id_column", "columns", "truncate"}
"""What a job is that is said elsewhere, or that vectors do not depend on."""


@dataclass(frozen=True)
class Origin:
    """What made vectors, and so what they can be compared with."""

    model: str
    identity: str
    similarity: str
    precision: str
    dimension: int
    options: dict[str, Any] = field(default_factory=dict)
    """Of the encoding, as far as vectors depend on them: pooling, prompt and others."""

    def as_kept(self) -> dict[str, dict[str, Any]]:
        """All of it, as stores keep it."""
        return {KEY: asdict(self)}

    def to_json(self) -> str:
        """The same for stores that keep text."""
        return json.dumps(self.as_kept())

    def agrees(self, kept: object, where: str, *, filled: bool) -> bool:
        """Whether `kept` is of the same origin; False if nothing is said and nothing is there yet.

        Args:
            kept: What is known of the vectors that are there: a mapping, or JSON of one, with KEY.
            where: Their place, for the message.
            filled: Whether there are any.

        Raises:
            InvalidArgument: The vectors that are there are another model's, or nobody knows whose.
        """
        if isinstance(kept, (str, bytes)):
            try:
                kept = json.loads(kept)
            except ValueError:
                kept = None
        known = kept.get(KEY) if isinstance(kept, Mapping) else None
        if not isinstance(known, Mapping):
            if filled:
                raise InvalidArgument(
                    f"{where} has vectors, and nothing says of which model: vectors of two models are not comparable, "
                    "so empty it or give another name"
                )
            return False
        for name in ("dimension", "precision", "identity", "options"):
            there, here = known.get(name, {}), getattr(self, name)
            if there != here:
                raise InvalidArgument(
                    f"{where} has vectors of {known.get('model')} ({name} {there!s:.200}), not of {self.model} ({name} "
                    f"{here!s:.200}): vectors of two models are not comparable, so give another name"
                )
        return True


@dataclass(frozen=True)
class Rows:
    """Some rows of a corpus; no two have the same id."""

    columns: pa.RecordBatch
    ids: pa.Array
    vectors: npt.NDArray[Any]
    """[N, D], float32, float16, int8 or uint8."""


@dataclass(frozen=True)
class Corpus:
    """The files of a finished corpus, which all have the same columns and the vectors of one model."""

    directory: Path
    files: tuple[Path, ...]
    id_column: str
    vector_column: str
    origin: Origin
    schema: pa.Schema

    @classmethod
    def at(cls, directory: Path) -> Corpus:
        """That in a directory.

        Raises:
            InvalidArgument: There is none, its job has not ended, or its files do not go together.
        """
        files = tuple(sorted((directory / "vectors").glob("*.parquet")))
        if not files:
            raise InvalidArgument(f"{directory} has no vectors/*.parquet, which a finished corpus consists of")
        corpus = cls._of(directory, files)
        for file in files[1:]:
            other = cls._of(directory, (file,))
            corpus.origin.agrees(other.origin.as_kept(), str(file), filled=True)
            if not other.schema.equals(corpus.schema) or other.id_column != corpus.id_column:
                raise InvalidArgument(f"{file} has other columns than {files[0]}")
        return corpus

    @classmethod
    def _of(cls, directory: Path, files: tuple[Path, ...]) -> Corpus:
        try:
            schema = pq.read_schema(files[0])
            kept = json.loads((schema.metadata or {})[KEY.encode()])
            known = {each.name: kept[each.name] for each in fields(Origin) if each.name != "options"}
            state = _state(directory / "corpus.json")
            made = Origin(**known, options=_options(state))
            corpus = cls(directory, files, kept["id_column"], kept["vector_column"], made, schema.remove_metadata())
        except (pa.ArrowInvalid, LookupError, TypeError, ValueError):
            raise InvalidArgument(f"{files[0]} is no file of a finished corpus: it does not say what made it") from None
        if not state.get("finished", True):
            raise InvalidArgument(
                f"{directory} is of a job that has not ended: run it again, and load what it has then"
            )
        corpus._check_columns()
        return corpus

    def _check_columns(self) -> None:
        for name in (self.id_column, self.vector_column):
            if self.schema.names.count(name) != 1:
                raise InvalidArgument(
                    f"{self.files[0]} has not one column {name!r}, but {', '.join(self.schema.names)}"
                )
        vector, ids = self.schema.field(self.vector_column).type, self.schema.field(self.id_column).type
        if not pa.types.is_fixed_size_list(vector):
            raise InvalidArgument(
                f"{self.files[0]} has no vectors of one length in {self.vector_column!r}, but {vector}"
            )
        if not (pa.types.is_integer(ids) or pa.types.is_string(ids) or pa.types.is_large_string(ids)):
            raise InvalidArgument(f"{self.files[0]} has ids of {ids} in {self.id_column!r}: int64 and string are taken")

    @property
    def size(self) -> int:
        """Numbers in a vector, as it is stored."""
        size: int = self.schema.field(self.vector_column).type.list_size
        return size

    @property
    def number(self) -> str:
        """Their type: float, halffloat, int8 or uint8."""
        return str(self.schema.field(self.vector_column).type.value_type)

    @property
    def integer_ids(self) -> bool:
        """Whether ids are numbers, and not strings."""
        return bool(pa.types.is_integer(self.schema.field(self.id_column).type))

    @property
    def others(self) -> list[str]:
        """The columns beside ids and vectors."""
        return [name for name in self.schema.names if name not in (self.id_column, self.vector_column)]

    def holdable(self, store: str, precisions: Mapping[str, Any], similarities: Mapping[str, Any]) -> None:
        """Raises InvalidArgument for a precision or a similarity that a store has nothing for."""
        for what, allowed in (("precision", precisions), ("similarity", similarities)):
            if (given := getattr(self.origin, what)) not in allowed:
                raise InvalidArgument(
                    f"{store} cannot hold vectors of {what} {given}; it takes those of {', '.join(allowed)}"
                )

    def ids(self) -> Iterator[pa.Array]:
        """All ids, in the order of `batches`, and nothing else."""
        for file in self.files:
            for batch in _batches(file, 64 * _READ_ROWS, [self.id_column]):
                _refuse_nulls(batch, self.id_column, file)
                yield batch.column(0)

    def batches(self, most_bytes: int) -> Iterator[Rows]:
        """All rows, as many a time as fit into so many bytes, at least one; of those with the same id the last.

        Raises:
            InvalidArgument: An id or a vector is null.
        """
        gathered: list[pa.RecordBatch] = []
        size = 0
        for batch in self._read():
            for piece in _pieces(batch, most_bytes // 8):
                if gathered and size + piece.nbytes > most_bytes:
                    yield self._rows(gathered)
                    gathered, size = [], 0
                gathered.append(piece)
                size += piece.nbytes
        if gathered:
            yield self._rows(gathered)

    def _read(self) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            for batch in _batches(file, _READ_ROWS):
                _refuse_nulls(batch, self.id_column, file)
                _refuse_nulls(batch, self.vector_column, file)
                yield batch

    def _rows(self, gathered: list[pa.RecordBatch]) -> Rows:
        (columns,) = pa.Table.from_batches(gathered).replace_schema_metadata().combine_chunks().to_batches()
        ids = columns.column(self.id_column)
        if pc.count_distinct(ids).as_py() != len(ids):
            places = {id_: place for place, id_ in enumerate(ids.to_pylist())}
            columns = columns.take(pa.array(sorted(places.values())))
            ids = columns.column(self.id_column)
        numbers = columns.column(self.vector_column).flatten().to_numpy(zero_copy_only=False)
        return Rows(columns, ids, numbers.reshape(-1, self.size))


def _state(file: Path) -> dict[str, Any]:
    """What a job says of itself; nothing of a corpus that something else has made."""
    return json.loads(file.read_bytes()) if file.exists() else {}


def _options(state: dict[str, Any]) -> dict[str, Any]:
    """Those of the job."""
    fingerprint = state["fingerprint"] if state else {}
    return {name: value for name, value in fingerprint.items() if name not in _OF_NO_VECTOR and value is not None}


def _batches(file: Path, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(file) as opened:
            yield from opened.iter_batches(rows, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:  # vectors of unlike length, null ones among them, are the former
        raise InvalidArgument(f"{file} cannot be read: {next(iter(str(error).splitlines()), '')}") from None


def _refuse_nulls(batch: pa.RecordBatch, name: str, file: Path) -> None:
    column = batch.column(name)
    if column.null_count or (pa.types.is_fixed_size_list(column.type) and column.flatten().null_count):
        raise InvalidArgument(f"{file} has a null in {name!r}: each row needs an id and a vector")


def _pieces(batch: pa.RecordBatch, most_bytes: int) -> Iterator[pa.RecordBatch]:
    if batch.num_rows > 1 and batch.nbytes > most_bytes:
        half = batch.num_rows // 2
        yield from _pieces(batch.slice(0, half), most_bytes)
        yield from _pieces(batch.slice(half), most_bytes)
    else:
        yield batch
