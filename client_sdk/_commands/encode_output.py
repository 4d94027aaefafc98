"""What `encode` writes, line by line, so that what is done is never lost: JSON lines, or an array in NumPy's format."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from client_sdk._call.texts import Text

Vectors = npt.NDArray[np.float32]

_HEADER_BYTES = 128  # of a .npy file; room for any shape


class Writer(Protocol):
    """Takes vectors in order."""

    rows: int
    """Written so far."""

    def write(self, lines: Sequence[tuple[int, Text]], vectors: Vectors) -> None:
        """Number and text of each line, and its vector [N, D]."""
        ...

    def finish(self) -> None:
        """Make of what was written so far something that can be read."""
        ...


class JsonLines:
    """An object a line, with text and vector, and the number of the line if `numbered`.

    orjson is ten times as fast as what the standard library offers, and is used if it is installed.
    """

    def __init__(self, stream: IO[bytes], *, numbered: bool) -> None:
        self.rows = 0
        self._stream = stream
        self._numbered = numbered
        try:
            self._orjson: Any = importlib.import_module("orjson")
        except ImportError:
            self._orjson = None

    def write(self, lines: Sequence[tuple[int, Text]], vectors: Vectors) -> None:
        """A line each."""
        for (number, text), vector in zip(lines, vectors, strict=True):
            entry: dict[str, Any] = {"line": number, "text": text} if self._numbered else {"text": text}
            if self._orjson is not None:
                options = self._orjson.OPT_SERIALIZE_NUMPY | self._orjson.OPT_APPEND_NEWLINE
                self._stream.write(self._orjson.dumps({**entry, "vector": vector}, option=options))
            else:
                # Nine digits are enough to give each float32 back exactly.
                numbers = ", ".join(["%.9g"] * len(vector)) % tuple(vector.tolist())
                self._stream.write(f'{json.dumps(entry, ensure_ascii=False)[:-1]}, "vector": [{numbers}]}}\n'.encode())
        self.rows += len(lines)
        self._stream.flush()

    def finish(self) -> None:
        """Every line is whole."""


class Array:
    """An array [N, D] float32 in NumPy's format, written as it grows; its header says at the end how long it is."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.rows = 0
        self._width = 0
        self._stream = stream

    def write(self, lines: Sequence[tuple[int, Text]], vectors: Vectors) -> None:
        """A row each."""
        if not self.rows:
            self._width = vectors.shape[1]
            self._stream.write(bytes(_HEADER_BYTES))
        self._stream.write(np.ascontiguousarray(vectors, "<f4").tobytes())
        self.rows += len(vectors)

    def finish(self) -> None:
        """Put the header in its place."""
        described = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({self.rows}, {self._width}), }}"
        start = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
        self._stream.seek(0)
        self._stream.write(start + described.encode().ljust(_HEADER_BYTES - 11) + b"\n")


@contextlib.contextmanager
def open_writer(path: Path | None, *, numbered: bool) -> Iterator[Writer]:
    """A writer to standard output, or to a file that takes the place of `path` when it is complete.

    What was written before an error (or Ctrl-C) is kept beside `path`, as PATH.partial, and standard error says so.
    """
    if path is None:
        yield JsonLines(sys.stdout.buffer, numbered=numbered)
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
        writer: Writer = Array(stream) if path.suffix == ".npy" else JsonLines(stream, numbered=numbered)
        place = path
        try:
            yield writer
        except BaseException:
            place = path.with_name(path.name + ".partial")
            raise
        finally:
            _put(stream, writer, place, is_whole=place is path)


def _put(stream: Any, writer: Writer, place: Path, *, is_whole: bool) -> None:
    try:
        if writer.rows:
            writer.finish()
            stream.close()
            os.chmod(stream.name, 0o666 & ~_umask())
            os.replace(stream.name, place)
            if not is_whole:
                print(f"note: the {writer.rows:,} vectors that were done are in {place}", file=sys.stderr)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(stream.name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
