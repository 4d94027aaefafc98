"""`python -m client_sdk encode`: one text a line, to JSON lines or a .npy file."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from client_sdk._call.collect import Rows
from client_sdk._call.job import AnswerKind
from client_sdk._call.options import POOLINGS, PRIORITIES, request_parameters
from client_sdk._call.plan import DEFAULT_BATCH_SIZE
from client_sdk._call.progress import Progress
from client_sdk._commands.encode_input import Lines, WrongLine
from client_sdk._commands.encode_output import Writer, open_writer
from client_sdk._errors import InvalidArgument, ServerError
from client_sdk._session import Session
from client_sdk._transport.base import Arrays


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `encode`, but for the server's address."""
    parser.add_argument("file", nargs="?", default="-", help="one text a line, UTF-8; - is standard input (default)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=".npy: an array [N, D] float32; .jsonl: an object a line, with text and vector "
        "(default: the same on standard output). What is done before an error is kept as FILE.partial",
    )
    parser.add_argument("--pairs", action="store_true", help="a line is two texts with a tab between, encoded together")
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="a line that is blank, not UTF-8 or refused by the server: stop (default), or skip it. Then .npy has no "
        "row for it, JSON lines have the number of each line as line, and FILE.skipped.jsonl, or standard error, says "
        "which were skipped and why",
    )
    parser.add_argument(
        "--pooling",
        metavar="NAME",
        help=f"{', '.join(POOLINGS)}, or several joined by + (cls+mean); default: the model's own",
    )
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="scale vectors to length 1; default: the model's",
    )
    parser.add_argument("--truncate-dim", type=int, metavar="D", help="numbers to keep of each vector")
    parser.add_argument("--max-seq-len", type=int, metavar="TOKENS", help="tokens to use of each text")
    parser.add_argument(
        "--truncate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="cut longer texts (default), or take them as wrong",
    )
    parser.add_argument("--prompt", type=_as_utf8, help="put before each text")
    parser.add_argument(
        "--prompt-name", type=_as_utf8, metavar="NAME", help="the same, by the name of one of the model's prompts"
    )
    parser.add_argument(
        "--model-version", type=int, metavar="N", help="among those that are served; default: the highest"
    )
    parser.add_argument(
        "--priority",
        choices=PRIORITIES,
        help="which texts the network takes first; default: bulk if there is more than one request",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help=f"texts in a request; default: {DEFAULT_BATCH_SIZE}, or fewer long ones",
    )
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="a bar on standard error; needs tqdm; default: on a terminal, if tqdm is there",
    )


def run(arguments: argparse.Namespace, session: Session) -> int:
    """Encode and write, all in one call, so that all comes from one model; raises ClientError, or OSError for files."""
    output: Path | None = arguments.output
    if output is not None and output.suffix not in (".npy", ".jsonl"):
        raise InvalidArgument(f"output {str(output)!r}: the name must end in .npy or .jsonl")
    if output is not None and not output.parent.is_dir():
        raise InvalidArgument(f"output {str(output)!r}: there is no directory {str(output.parent)!r}")
    parameters = request_parameters(
        pooling=arguments.pooling,
        normalize=arguments.normalize,
        truncate_dim=arguments.truncate_dim,
        max_seq_len=arguments.max_seq_len,
        truncate=arguments.truncate,
        prompt=arguments.prompt,
        prompt_name=arguments.prompt_name,
        priority=arguments.priority,
    )
    skips = arguments.on_error == "skip"
    skipped: list[WrongLine] = []
    leave_out: Callable[[WrongLine], object] = skipped.append if skips else _stop
    name = "standard input" if arguments.file == "-" else arguments.file
    with contextlib.ExitStack() as open_things:
        stream = open_things.enter_context(_opened(arguments.file))
        lines = Lines(stream, name, arguments.pairs, leave_out)
        total = lines.count((lambda line: None) if skips else _stop)
        open_things.callback(_report, skipped, output)
        writer = open_things.enter_context(open_writer(output, numbered=skips))
        progress = Progress(total, _wants_progress(arguments.progress))
        open_things.callback(progress.close)
        rows = _RowsInOrder(lines, writer, progress)
        job = AnswerKind("", ("EMBEDDING",), lambda _: rows).job(
            session.settings.model, lines, parameters, arguments.batch_size, model_version=arguments.model_version
        )
        if skips:
            job.leave_out = lambda position, reason: rows.leave_out(position, reason, leave_out)
        try:
            session.run(job, session.settings.deadline(None))
        except InvalidArgument as error:
            raise _with_line_number(error, lines) from None
        if lines.wrong is not None:
            raise lines.wrong
    return 0


class _RowsInOrder:
    """Puts the rows of replies into the order of their lines, and writes each as soon as those before it are there."""

    def __init__(self, lines: Lines, writer: Writer, progress: Progress) -> None:
        self._lines = lines
        self._writer = writer
        self._progress = progress
        self._rows: dict[int, npt.NDArray[np.float32] | None] = {}  # None: there will be none
        self._next = 0
        self._width: int | None = None

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Write what is next in order."""
        checked = Rows("EMBEDDING", np.float32, len(positions))
        checked.take(range(len(positions)), reply)
        vectors = checked.result()
        self._width = self._width or vectors.shape[1]
        if vectors.shape[1] != self._width:
            raise ServerError(
                f"EMBEDDING changed from {self._width} to {vectors.shape[1]} values a text: was the model replaced? "
                "Try again"
            )
        self._rows.update(zip(positions, vectors, strict=True))
        self._write()

    def leave_out(self, position: int, reason: str, report: Callable[[WrongLine], object]) -> None:
        """The text at `position` was refused."""
        report(WrongLine(self._lines.number(position), reason.removeprefix(":").strip()))
        self._rows[position] = None
        self._write()

    def result(self) -> None:
        """It is written already."""

    only = result

    def _write(self) -> None:
        lines, vectors = [], []
        while self._next in self._rows:
            vector, line = self._rows.pop(self._next), self._lines.take()
            self._next += 1
            if vector is not None:
                lines.append(line)
                vectors.append(vector)
        if lines:
            self._writer.write(lines, np.stack(vectors))
        self._progress.update(len(lines))


def _stop(line: WrongLine) -> None:
    raise line


def _report(skipped: list[WrongLine], output: Path | None) -> None:
    """Say which lines were skipped; a report of an earlier run does not stay beside vectors that are not its own."""
    skipped.sort(key=lambda line: line.number)
    if output is None:
        for line in skipped:
            print(f"skipped: {line}", file=sys.stderr)
        return
    path = output.with_name(output.name + ".skipped.jsonl")
    if not skipped:
        path.unlink(missing_ok=True)
        return
    entries = [{"line": line.number, "reason": line.reason} for line in skipped]
    path.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries), encoding="utf-8")
    print(f"note: {len(skipped):,} lines were skipped, the first: {skipped[0]}; all are in {path}", file=sys.stderr)


def _opened(file: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    return contextlib.nullcontext(sys.stdin.buffer) if file == "-" else open(file, "rb")


def _with_line_number(error: InvalidArgument, lines: Lines) -> InvalidArgument:
    if error.text_index is None:
        return error
    return InvalidArgument(f"line {lines.number(error.text_index)}{error.reason}")


def _as_utf8(argument: str) -> str:
    """An argument as it was typed, in UTF-8, whatever the locale took it for."""
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        return argument


def _wants_progress(asked: bool | None) -> bool:
    if asked is not None:
        return asked
    return sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
