"""What `encode`, `rerank` and `classify` read: one text a line, or with `pairs` two, with a tab between them."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO

from client_sdk._call.texts import Text
from client_sdk._checks import LONGEST_TEXT, too_long
from client_sdk._errors import InvalidArgument

_LONGEST_LINE = 2 * LONGEST_TEXT + 8  # bytes of a pair, and of what stands around and between its texts


class WrongLine(InvalidArgument):
    """A line that holds no text to encode; the message begins with its number."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"line {number} {reason}")
        self.number = number
        self.reason = reason


def read_lines(
    stream: IO[bytes], name: str, pairs: bool, leave_out: Callable[[WrongLine], object]
) -> Iterator[tuple[int, Text]]:
    """The number, from 1, and the text of each line that has one; the others are given to `leave_out`, or it raises.

    Raises:
        InvalidArgument: No line has a text.
    """
    number = texts = 0
    for number, (line, size) in enumerate(_bounded(stream), 1):
        try:
            if size > len(line):
                raise WrongLine(number, f"of {name} has {size} bytes; a text may have {LONGEST_TEXT} bytes at most")
            text = _text(line, number, name, pairs)
        except WrongLine as error:
            leave_out(error)
        else:
            texts += 1
            yield number, text
    if not texts:
        found = "has no line with a text" if number else "is empty"
        raise InvalidArgument(f"{name} {found}: give at least one")


def _bounded(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Each line, or what begins one that is too long for any text, so that memory is bounded; and its size in bytes."""
    while line := stream.readline(_LONGEST_LINE):
        piece, size = line, len(line)
        while len(piece) == _LONGEST_LINE and not piece.endswith(b"\n"):  # which may go on
            piece = stream.readline(_LONGEST_LINE)
            size += len(piece)
        yield line, size


class Lines:
    """The texts of a file, to be read once; it remembers which line each came from until that is not needed any more.

    Args:
        stream: Lines in UTF-8.
        name: Of the file, for messages.
        pairs: Two texts a line.
        leave_out: Told each line that is not one; may raise.
    """

    def __init__(self, stream: IO[bytes], name: str, pairs: bool, leave_out: Callable[[WrongLine], object]) -> None:
        self._stream = stream
        self._name = name
        self._pairs = pairs
        self._leave_out = leave_out
        self.wrong: WrongLine | None = None
        """Where reading has ended before the end."""
        self._read = 0  # texts
        self._unwritten: deque[tuple[int, Text]] = deque()
        self._first = 0  # the position of the first of them

    def count(self, leave_out: Callable[[WrongLine], object]) -> int | None:
        """How many texts there will be, where that can be known beforehand: in a file, and not in a pipe.

        Raises:
            InvalidArgument: There is none, or `leave_out` raises for a line.
        """
        try:
            if not stat.S_ISREG(os.fstat(self._stream.fileno()).st_mode):
                return None
        except OSError:  # a stream without a file
            return None
        start = self._stream.tell()
        count = sum(1 for _ in read_lines(self._stream, self._name, self._pairs, leave_out))
        self._stream.seek(start)
        return count

    def __iter__(self) -> Iterator[Text]:
        """The texts, in order, up to the line for which `leave_out` raises; those before it are worth encoding."""
        try:
            for number, text in read_lines(self._stream, self._name, self._pairs, self._leave_out):
                self._unwritten.append((number, text))
                self._read += 1
                yield text
        except WrongLine as error:
            if not self._read:
                raise
            self.wrong = error

    def number(self, position: int) -> int:
        """The line of the text at `position`, from 0, which has not been taken yet."""
        return self._unwritten[position - self._first][0]

    def take(self) -> tuple[int, Text]:
        """Line and text of the next in order."""
        self._first += 1
        return self._unwritten.popleft()


def _text(line: bytes, number: int, name: str, pairs: bool) -> Text:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise WrongLine(number, f"of {name} is not UTF-8: {error.reason}") from None
    if not text.strip():
        raise WrongLine(number, f"of {name} is blank: there is nothing in it to read")
    parts = text.split("\t") if pairs else [text]
    if pairs and len(parts) != 2:
        raise WrongLine(number, f"of {name} has {len(parts) - 1} tabs: a pair is two texts with one tab between them")
    if not all(part.strip() for part in parts):
        raise WrongLine(number, f"of {name} has a blank text beside its tab: there is nothing in it to read")
    for part in parts:
        if problem := too_long(part):
            raise WrongLine(number, f"of {name} has {problem}")
    return (parts[0], parts[1]) if pairs else text
