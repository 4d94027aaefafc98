"""The folder of a job: vectors, errors, and what a killed job goes on from.

    corpus.json          what the job is, and which files it has seen: the number of a file is part of its rows' keys
    vectors/*.parquet    rows with their vectors
    errors/*.jsonl       rows that cannot be encoded, and why
    checkpoint/N/        of run N, for each pair of these files the keys of its rows

Ray Data writes the keys of a file to `checkpoint/N/NAME.pending.parquet`, then the file, and then renames the former to
`NAME.parquet`. So a file counts if its keys stand there under that name, and one without is of a writer that was
killed. Each run takes the checkpoint of the last into a folder of its own, before it writes anything: whoever of an
earlier run still lives finds its folder gone, and writes nothing that counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import posixpath
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileInfo
from ray.data._internal.execution.interfaces import TaskContext
from ray.data._internal.planner.plan_write_op import WRITE_UUID_KWARG_NAME
from ray.data.block import BlockAccessor
from ray.data.datasource import BlockBasedFileDatasink

from client_sdk._errors import ClientError, InvalidArgument
from client_sdk._transport.connection import FilePath
from client_sdk.corpus.about import AboutVectors
from client_sdk.corpus.inputs import KEY, PROBLEM, TOKENS, InputFile, origin
from client_sdk.corpus.places import NEW, Place, place
from client_sdk.corpus.settings import CorpusSettings
from client_sdk.corpus.tally import Counts

METADATA = b"bert-on-triton"
"""Key of what a file of vectors says about itself, as JSON."""

STATE = "corpus.json"
"""The file that says what the job is."""

_FORMAT = 1
_PENDING = ".pending.parquet"
_COMMITTED = ".parquet"

_COUNTING = 16  # footers that are read at a time
_MOVING = 16  # files that are moved at a time


class Output:
    """The folder, as one run of a job finds and leaves it."""

    def __init__(self, path: FilePath) -> None:
        self.place = place(path)
        self._state: dict[str, Any] = {}

    @property
    def vectors(self) -> Place:
        """Where vectors are."""
        return self.place / "vectors"

    @property
    def errors(self) -> Place:
        """Where rows are that cannot be encoded."""
        return self.place / "errors"

    @property
    def checkpoint(self) -> Place:
        """Of this run."""
        return self.place / "checkpoint" / str(self._state["run"])

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No other job on this machine writes here meanwhile. Raises ClientError if one does."""
        if not self.place.is_local:
            yield
            return
        os.makedirs(self.place.path, exist_ok=True)
        with open(posixpath.join(self.place.path, ".lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClientError(f"another job writes to {self.place.path}: wait for it, or stop it") from None
            yield

    def ordered(self, files: Sequence[InputFile]) -> list[InputFile]:
        """The files of the input, those first that earlier runs have seen, in their order."""
        known = {described[0]: number for number, described in enumerate(self._read_state().get("files", []))}
        return sorted(files, key=lambda file: known.get(file.path, len(known)))

    def check(self, fingerprint: dict[str, Any]) -> None:
        """Raise InvalidArgument if it holds rows of another model or of other options, or something else."""
        self._state = self._read_state()
        if not self._state:
            own = {(self.place / name).path for name in (".lock", STATE + NEW)}
            if any(info.path not in own for info in self.place.files(recursive=True)):
                raise InvalidArgument(f"{self.place.path} is not empty, and holds no corpus: name a new folder")
            return
        before = self._state["fingerprint"]
        for name in {**before, **fingerprint}:
            if before.get(name) != fingerprint.get(name):
                raise InvalidArgument(
                    f"{self.place.path} was begun with {name}={_shown(before.get(name))}, and this is "
                    f"{name}={_shown(fingerprint.get(name))}: vectors of both must not be mixed, so name a new folder"
                )

    def begin(self, fingerprint: dict[str, Any], files: Sequence[InputFile]) -> dict[int, InputFile]:
        """Start a run: what an earlier one has finished is kept, and what it has not is removed.

        Returns:
            The files of the input, by their numbers.

        Raises:
            InvalidArgument: It holds rows of another model or of other options, something else, or an input file is
                another than it was.
        """
        self.check(fingerprint)
        known = [InputFile(*described) for described in self._state.get("files", [])]
        added = _added(known, files, self.place.path)
        before = int(self._state.get("run", 0))
        run = before + 1
        folder = self.place / "checkpoint"
        new = folder / str(run)
        new.filesystem.create_dir(new.path, recursive=True)
        if before:
            _move_all(folder / str(before), new)
        self._state = {
            "format": _FORMAT,
            "run": run,
            "finished": False,
            "fingerprint": fingerprint,
            "files": [file.described() for file in (*known, *added)],
        }
        self._write_state()
        self.remove_unfinished()
        return dict(enumerate((*known, *added)))

    def end(self, summary: dict[str, Any]) -> None:
        """Every row of the input is in the output."""
        self.remove_unfinished()
        self._state |= {"finished": True, "summary": summary}
        self._write_state()

    def remove_unfinished(self) -> None:
        """Files of writers that were killed."""
        checkpoint = self.checkpoint
        names = {posixpath.basename(info.path) for info in checkpoint.files()}
        pending = {name.removesuffix(_PENDING) for name in names if name.endswith(_PENDING)}
        # A file that was written once more, by a task that Ray repeated, is pending though it was whole before.
        _delete(checkpoint, (base + _COMMITTED for base in pending))
        whole = {name.removesuffix(_COMMITTED) for name in names if not name.endswith(_PENDING)} - pending
        for folder in (self.vectors, self.errors):
            found = [posixpath.basename(info.path) for info in folder.files()]
            _delete(folder, (name for name in found if posixpath.splitext(name)[0] not in whole))
        _delete(checkpoint, (base + _PENDING for base in pending))

    def refused(self) -> int:
        """Rows that could not be encoded."""
        return sum((self.errors / posixpath.basename(info.path)).count_lines() for info in self.errors.files())

    def written(self) -> Counts:
        """What all runs have done, as the files say."""
        files = [Place(self.vectors.filesystem, info.path) for info in self.vectors.files()]
        with ThreadPoolExecutor(_COUNTING) as pool:
            encoded = sum(pool.map(_counts_of, files), Counts())
        refused = self.refused()
        return encoded + Counts(texts=refused, refused=refused)

    def _read_state(self) -> dict[str, Any]:
        content = (self.place / STATE).read()
        if content is None:
            return {}
        try:
            state = json.loads(content)
            if state["format"] != _FORMAT:
                raise InvalidArgument(f"{self.place.path}/{STATE} is of format {state['format']}, not {_FORMAT}")
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(f"{self.place.path}/{STATE} is no file of a corpus: {error!r}") from None
        return dict(state)

    def _write_state(self) -> None:
        (self.place / STATE).write(json.dumps(self._state, ensure_ascii=False, indent=1).encode())


class CorpusSink(BlockBasedFileDatasink):  # type: ignore[misc]
    """Writes each block as a file of vectors and one of errors, as far as it has rows of both.

    Args:
        output: Where.
        settings: Of the job.
        files: The names of the input's files, by their numbers.
        about: What a file says of its vectors.
        failed: Called, in the task, with why a file cannot be written.
    """

    def __init__(
        self,
        output: Output,
        settings: CorpusSettings,
        files: dict[int, str],
        about: AboutVectors,
        failed: Callable[[ClientError], object],
    ) -> None:
        vectors = output.vectors
        super().__init__(vectors.path, filesystem=vectors.filesystem, file_format="parquet")
        self._errors = output.errors
        self._vectors = vectors
        self._id_column = settings.id_column
        self._files = files
        self._about = about
        self._failed = failed

    def get_name(self) -> str:
        """For Ray's own log."""
        return "Corpus"

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        """Make the folders."""
        super().on_write_start(schema)
        self._errors.filesystem.create_dir(self._errors.path, recursive=True)

    def write_block(self, block: BlockAccessor, block_index: int, ctx: TaskContext) -> None:
        """Write one; it counts once Ray Data has renamed its keys' file."""
        name = self.filename_provider.get_filename_for_task(ctx.kwargs[WRITE_UUID_KWARG_NAME], ctx.task_idx)
        table = block.to_arrow()
        is_whole = pc.is_null(table[PROBLEM])
        encoded, refused = table.filter(is_whole), table.filter(pc.invert(is_whole))
        if encoded.num_rows:
            file = for_readers(encoded, self._id_column, self._files, self._about)
            self._put(self._vectors / name, lambda stream: pq.write_table(file, stream))
        if refused.num_rows:
            lines = self._lines(refused)
            self._put(self._errors / f"{posixpath.splitext(name)[0]}.jsonl", lambda stream: stream.write(lines))

    def _put(self, target: Place, write: Callable[[pa.NativeFile], object]) -> None:
        """A reader finds nothing or all; a store of objects sees to that itself."""
        folder, name = posixpath.split(target.path)
        path = f"{folder}/.{name}" if target.is_local else target.path
        try:
            with target.filesystem.open_output_stream(path) as stream:
                write(stream)
            if path != target.path:
                target.filesystem.move(path, target.path)
        except OSError as error:
            self._failed(ClientError(f"{target.path} cannot be written: {error}"))
            raise

    def _lines(self, table: pa.Table) -> bytes:
        ids = [None] * table.num_rows if self._id_column is None else table[self._id_column].to_pylist()
        lines = []
        for key, row_id, problem in zip(table[KEY].to_pylist(), ids, table[PROBLEM].to_pylist(), strict=True):
            number, row = origin(key)
            entry = {"file": self._files[number], "row": row, **({} if row_id is None else {"id": row_id})}
            lines.append(json.dumps({**entry, "reason": problem}, ensure_ascii=False) + "\n")
        return "".join(lines).encode("utf-8", "backslashreplace")


def for_readers(table: pa.Table, id_column: str | None, files: dict[int, str], about: AboutVectors) -> pa.Table:
    """Rows that have been encoded, as a file of vectors has them, and what it says of them.

    Args:
        table: The rows.
        id_column: Of the input; None: a row's key is its id, and its file and its place there stand beside it.
        files: The names of the input's files, by their numbers.
        about: What the file says of its vectors.
    """
    tokens = table[TOKENS].to_numpy()
    counts = {"tokens": int(tokens.sum()), "cut": int((tokens > about.max_seq_len).sum())}
    if id_column is None:
        keys = table[KEY].to_pylist()
        places = [origin(key) for key in keys]
        table = table.add_column(0, "id", pa.array(keys, pa.int64()))
        table = table.add_column(1, "file", pa.array([files[number] for number, _ in places], pa.string()))
        table = table.add_column(2, "row", pa.array([row for _, row in places], pa.int64()))
    table = table.drop_columns([KEY, PROBLEM, TOKENS])
    return table.replace_schema_metadata({METADATA: about.to_json(**counts)})


def _added(known: Sequence[InputFile], files: Sequence[InputFile], output: str) -> list[InputFile]:
    """The files that are new. Raises InvalidArgument if one of the others is another than it was, or gone."""
    there = {file.path: file for file in files}
    for file in known:
        now = there.pop(file.path, None)
        if now is None:
            raise InvalidArgument(
                f"{file.path} was among the inputs when {output} was begun, and is not now: files may be added, and "
                "none taken away; or name a new folder"
            )
        if now != file:
            raise InvalidArgument(
                f"{file.path} has changed since {output} was begun, and its rows may be others: name a new folder"
            )
    return list(there.values())


def _counts_of(file: Place) -> Counts:
    metadata = pq.read_metadata(file.path, filesystem=file.filesystem)
    about = json.loads(metadata.metadata[METADATA])
    return Counts(texts=metadata.num_rows, tokens=about["tokens"], cut=about["cut"])


def _move_all(source: Place, target: Place) -> None:
    def move(info: FileInfo) -> None:
        source.filesystem.move(info.path, (target / posixpath.basename(info.path)).path)

    with ThreadPoolExecutor(_MOVING) as pool:  # a store of objects copies each
        for _ in pool.map(move, source.files()):
            pass
    source.filesystem.delete_dir(source.path)


def _delete(folder: Place, names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            folder.filesystem.delete_file((folder / name).path)


def _shown(value: object) -> str:
    return textwrap.shorten(json.dumps(value, ensure_ascii=False), 80)
