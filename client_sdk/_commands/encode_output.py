"""What `encode`, `rerank` and `classify` write, line by line, so that what is done is never lost.

JSON lines, or of vectors an array in NumPy's format.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from client_sdk._call.sparse import SparseVector
from client_sdk._call.texts import Text
from client_sdk._errors import InvalidArgument

Vectors = npt.NDArray[Any]
"""[N, D], of any precision."""

TokenArrays = Sequence[npt.NDArray[np.float32]]
"""[T, D] of each text."""

_HEADER_BYTES = 128  # of a .npy file; room for any shape


Answers = TypeVar("Answers", contravariant=True)


class Output(Protocol):
    """What a file is written by."""

    rows: int
    """Written so far."""

    def finish(self) -> None:
        """Make of what was written so far something that can be read."""
        ...


class Taker(Protocol[Answers]):
    """Is handed answers in order."""

    def write(self, lines: Sequence[tuple[int, Text]], answers: Answers, /) -> None:
        """Number and text of each line, and the answers to all."""
        ...


class Writer(Output, Taker[Answers], Protocol[Answers]):
    """Writes what it is handed."""


Out = TypeVar("Out", bound=Output)


class JsonLines:
    """An object a line.

    orjson is ten times as fast as what the standard library offers, and is used if it is installed.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.rows = 0
        self._stream = stream
        self._size = 0  # bytes of whole lines
        try:
            self._orjson: Any = importlib.import_module("orjson")
        except ImportError:
            self._orjson = None

    def put(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """A line each."""
        for line in map(self._line, entries):
            _write(self._stream, line)
            self._size += len(line)
            self.rows += 1
        self._stream.flush()

    def finish(self) -> None:
        """Cut off a line that is not whole."""
        self._stream.truncate(self._size)

    def _line(self, entry: Mapping[str, Any]) -> bytes:
        if self._orjson is not None:
            options = self._orjson.OPT_SERIALIZE_NUMPY | self._orjson.OPT_APPEND_NEWLINE
            line: bytes = self._orjson.dumps(entry, option=options)
            return line
        return (json.dumps(entry, ensure_ascii=False) + "\n").encode()


class VectorLines(JsonLines):
    """Text and vector of each line, and its number if `numbered`."""

    def __init__(self, stream: IO[bytes], *, numbered: bool) -> None:
        super().__init__(stream)
        self._numbered = numbered

    def write(self, lines: Sequence[tuple[int, Text]], vectors: Vectors) -> None:
        """A line each."""
        self.put(
            {**described(line, self._numbered), "vector": vector} for line, vector in zip(lines, vectors, strict=True)
        )

    def _line(self, entry: Mapping[str, Any]) -> bytes:
        if self._orjson is not None:
            return super()._line(entry)
        rest, vector = dict(entry), entry["vector"]
        del rest["vector"]
        return f'{json.dumps(rest, ensure_ascii=False)[:-1]}, "vector": {_digits(vector)}}}\n'.encode()


class WordLines(JsonLines):
    """Text, indices and weights of each line, and its number if `numbered`."""

    def __init__(self, stream: IO[bytes], *, numbered: bool) -> None:
        super().__init__(stream)
        self._numbered = numbered

    def write(self, lines: Sequence[tuple[int, Text]], vectors: Sequence[SparseVector]) -> None:
        """A line each, the heaviest words first."""
        self.put(
            {
                **described(line, self._numbered),
                "indices": vector.indices.tolist(),
                "weights": [shortest(weight) for weight in vector.weights.tolist()],
            }
            for line, vector in zip(lines, vectors, strict=True)
        )


class TokenLines(JsonLines):
    """Text and vectors of each line, one for each token that counts, and its number if `numbered`."""

    def __init__(self, stream: IO[bytes], *, numbered: bool) -> None:
        super().__init__(stream)
        self._numbered = numbered

    def write(self, lines: Sequence[tuple[int, Text]], texts: TokenArrays) -> None:
        """A line each."""
        self.put(
            {**described(line, self._numbered), "vectors": vectors} for line, vectors in zip(lines, texts, strict=True)
        )

    def _line(self, entry: Mapping[str, Any]) -> bytes:
        if self._orjson is not None:
            return super()._line(entry)
        rest, vectors = dict(entry), entry["vectors"]
        del rest["vectors"]
        return (
            f'{json.dumps(rest, ensure_ascii=False)[:-1]}, "vectors": [{", ".join(map(_digits, vectors))}]}}\n'.encode()
        )


class TokenFile:
    """NumPy's .npz of `vectors` [W, D] float32, those of all texts end to end, and `lengths` [N] int64 of each.

    They are kept in a file of their own until the end, which says how many there are.
    """

    def __init__(self, stream: IO[bytes], *, dimension: int) -> None:
        self.rows = 0
        self._stream = stream
        self._dimension = dimension
        self._lengths: list[int] = []
        self._vectors = tempfile.TemporaryFile(dir=os.path.dirname(stream.name))  # noqa: SIM115 - until `finish`

    def write(self, lines: Sequence[tuple[int, Text]], texts: TokenArrays) -> None:
        """A text each."""
        for vectors in texts:
            self._vectors.write(np.ascontiguousarray(vectors, "<f4").tobytes())
            self._lengths.append(len(vectors))
        self.rows += len(texts)

    def finish(self) -> None:
        """Put all into the archive."""
        self._vectors.seek(0)
        shape = (sum(self._lengths), self._dimension)
        with self._vectors, zipfile.ZipFile(self._stream.name, "w") as archive:
            with archive.open("vectors.npy", "w", force_zip64=True) as member:
                member.write(_header("<f4", *shape))
                shutil.copyfileobj(self._vectors, member, 1 << 20)
            with archive.open("lengths.npy", "w", force_zip64=True) as member:
                member.write(_header("<i8", len(self._lengths)) + np.array(self._lengths, "<i8").tobytes())


class Array:
    """An array [N, D] in NumPy's format, written as it grows; its header says at the end how long it is."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.rows = 0
        self._width = 0
        self._numbers = "<f4"
        self._stream = stream

    def write(self, lines: Sequence[tuple[int, Text]], vectors: Vectors) -> None:
        """A row each."""
        if not self.rows:
            self._width, self._numbers = vectors.shape[1], vectors.dtype.newbyteorder("<").str
            _write(self._stream, bytes(_HEADER_BYTES))
        rows = np.ascontiguousarray(vectors, self._numbers)
        try:
            _write(self._stream, rows.tobytes())
        finally:
            self.rows = (self._stream.tell() - _HEADER_BYTES) // rows[0].nbytes

    def finish(self) -> None:
        """Put the header in its place, and cut off a row that is not whole."""
        self._stream.truncate(_HEADER_BYTES + self.rows * self._width * np.dtype(self._numbers).itemsize)
        self._stream.seek(0)
        _write(self._stream, _header(self._numbers, self.rows, self._width))


def _header(numbers: str, *shape: int) -> bytes:
    """What stands before an array in NumPy's format, _HEADER_BYTES in any case."""
    described = f"{{'descr': '{numbers}', 'fortran_order': False, 'shape': {shape}, }}"
    start = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
    return start + described.encode().ljust(_HEADER_BYTES - 11) + b"\n"


def _write(stream: IO[bytes], data: bytes) -> None:
    """All of it, or raise: a disk that is nearly full takes a part of it."""
    left = memoryview(data)
    while left:
        left = left[stream.write(left) :]


def _digits(vector: Vectors) -> str:
    """A vector in JSON; nine digits are enough to give each float32 back exactly."""
    return "[" + ", ".join(["%.9g"] * len(vector)) % tuple(vector.tolist()) + "]"


def described(line: tuple[int, Text], numbered: bool) -> dict[str, Any]:
    """What JSON lines say of a line before its answer: its text, and its number if `numbered`."""
    number, text = line
    return {"line": number, "text": text} if numbered else {"text": text}


def shortest(score: float) -> float:
    """A float32 with no more digits than tell it from others."""
    return float(str(np.float32(score)))


def check_output(path: Path | None, *suffixes: str) -> None:
    """Raise InvalidArgument for a name that does not end in one of these, or a directory that is not there."""
    if path is None:
        if sys.stdout is None:  # closed by whoever started the program
            raise InvalidArgument("standard output is closed: give a file, as -o FILE")
        return
    if path.suffix not in suffixes:
        raise InvalidArgument(f"output {str(path)!r}: the name must end in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise InvalidArgument(f"output {str(path)!r}: there is no directory {str(path.parent)!r}")
    if path.is_dir():
        raise InvalidArgument(f"output {str(path)!r} is a directory: give the name of a file")


@contextlib.contextmanager
def open_output(
    path: Path | None, make: Callable[[IO[bytes]], Out], rows: str, ended: Callable[[Path | None], object]
) -> Iterator[Out]:
    """What `make` writes to standard output by, or to a file that takes the place of `path` when it is complete.

    What was written before an error (or Ctrl-C) is kept beside `path`, as PATH.partial, and standard error says so;
    `rows`: what it calls them. `ended` is told at the end which file was written; None: none.
    """
    if path is None:
        try:
            yield make(sys.stdout.buffer)
        finally:
            ended(None)
        return
    # Without a buffer: what a full disk did not take would be in the way of what it took.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False, buffering=0) as stream:
        output = make(stream)
        place = path
        try:
            yield output
        except BaseException:
            place = path.with_name(path.name + ".partial")
            raise
        finally:
            _put(stream, output, place, "" if place is path else rows)
            ended(place if output.rows else None)


def _put(stream: Any, output: Output, place: Path, partial_rows: str) -> None:
    try:
        if output.rows:
            output.finish()
            stream.close()
            os.chmod(stream.name, 0o666 & ~_umask())
            os.replace(stream.name, place)
            if partial_rows:
                print(f"note: the {output.rows:,} {partial_rows} that were done are in {place}", file=sys.stderr)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(stream.name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
