"""The files of a corpus, listed and numbered, and read row by row into blocks for Ray Data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data
from pyarrow.fs import FileInfo, FileType
from ray.data.block import BlockMetadata

from client_sdk._errors import ClientError, InvalidArgument
from client_sdk._transport.connection import FilePath
from client_sdk.corpus.places import Place, below, place
from client_sdk.corpus.readers import FORMATS, Columns, Rows, reader_of

KEY, TEXT, PROBLEM, TOKENS = "__key", "__text", "__problem", "__tokens"
"""Columns of a block on its way, beside those that are copied: the row's own number, its text as bytes, why it cannot
be encoded, and of one that has been the text's token count, before anything is cut off."""

_ROW_BITS = 36
"""Of a key; those above are the number of the file. 6.9e10 rows a file, 1.3e8 files."""

_ROWS_AT_A_TIME = 1024


@dataclass(frozen=True)
class InputFile:
    """One that is there."""

    path: str
    """Absolute, or a URI."""
    size: int
    """In bytes."""
    modified: int | None
    """In nanoseconds since 1970; None where the store does not say."""

    def described(self) -> list[Any]:
        """For a job's own file."""
        return [self.path, self.size, self.modified]


def list_files(inputs: Sequence[FilePath], output: Place | None = None) -> list[InputFile]:
    """The files that inputs name, those of a folder by name; hidden ones and `_SUCCESS` and its like are passed over.

    So is what stands in the output, if that is below an input.

    Raises:
        InvalidArgument: One is not there, of a format that is not known, or a folder has no file to read.
    """
    found: dict[str, InputFile] = {}
    for given in inputs:
        name, root = os.fspath(given), place(given)
        if output is not None and root.is_within(output):
            raise InvalidArgument(f"the input {name!r} is in the output, {output.path}: name another folder")
        info = root.info()
        if info.type == FileType.NotFound:
            raise InvalidArgument(f"there is no {name!r} to read")
        if info.type == FileType.Unknown:
            raise InvalidArgument(f"{name!r} is neither a file nor a folder")
        if info.type == FileType.File:
            reader_of(name)
            files = [("", info)]
        else:
            files = list(_shown(root, output))
        path = root.path if root.is_local else name
        for inner, file in files:
            whole = below(path, inner) if inner else path
            found[whole] = InputFile(whole, file.size, file.mtime_ns)
    return list(found.values())


def _shown(root: Place, output: Place | None) -> Iterator[tuple[str, FileInfo]]:
    """The files to read of a folder, with their paths below it; one that links lead to is read once."""
    files = root.files(recursive=True)
    if output is not None:
        files = [file for file in files if not Place(root.filesystem, file.path).is_within(output)]
    if root.is_local:
        shortest_last = sorted(files, key=lambda file: (file.path.count("/"), file.path), reverse=True)
        once = {os.path.realpath(file.path): file.path for file in shortest_last}
        files = [file for file in files if once[os.path.realpath(file.path)] == file.path]
    seen = [(os.path.relpath(file.path, root.path), file) for file in files]
    seen = [(path, file) for path, file in seen if not any(part.startswith((".", "_")) for part in path.split("/"))]
    known = [(path, file) for path, file in seen if FORMATS.of(path) is not None]
    if not known:
        raise InvalidArgument(
            f"the folder {root.path!r} has {len(seen):,} files, and none to read; known are {FORMATS.listed}"
        )
    yield from known


class CorpusSource(ray.data.Datasource):  # type: ignore[misc]
    """The rows of files, a read task for each file."""

    def __init__(
        self, numbered: dict[int, InputFile], columns: Columns, failed: Callable[[ClientError], object]
    ) -> None:
        """`failed` is called, in the task, with why a file cannot be read."""
        super().__init__()
        self._numbered = numbered
        self._columns = columns
        self._failed = failed

    def get_name(self) -> str:
        """For Ray's own log."""
        return "Corpus"

    def estimate_inmemory_data_size(self) -> int:
        """In bytes; what is packed is some times larger."""
        return sum(file.size for file in self._numbered.values())

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ray.data.ReadTask]:
        """One for each file; Ray makes blocks of what it yields."""
        return [
            ray.data.ReadTask(
                partial(_read, number, file, self._columns, self._failed),
                BlockMetadata(num_rows=None, size_bytes=file.size, input_files=(file.path,), exec_stats=None),
            )
            for number, file in self._numbered.items()
        ]


def _read(
    number: int, file: InputFile, columns: Columns, failed: Callable[[ClientError], object]
) -> Iterator[pa.Table]:
    try:
        for rows in reader_of(file.path).read(place(file.path), columns, _ROWS_AT_A_TIME):
            yield block_of(number, rows, columns)
    except ClientError as error:
        failed(error)
        raise


def block_of(number: int, rows: Rows, columns: Columns) -> pa.Table:
    """Rows of the file of this number, as they travel."""
    first = (number << _ROW_BITS) + rows.first
    kept = {field.name: column for field, column in zip(columns.kept, rows.kept, strict=True)}
    return pa.table(
        {
            KEY: pa.array(range(first, first + len(rows.texts)), pa.int64()),
            TEXT: pa.array(rows.texts, pa.large_binary()),
            PROBLEM: pa.array(rows.problems, pa.string()),
            **kept,
        }
    )


def origin(key: int) -> tuple[int, int]:
    """The number of a row's file, and the row within it, from 0."""
    return key >> _ROW_BITS, key & ((1 << _ROW_BITS) - 1)
