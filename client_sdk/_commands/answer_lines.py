"""What `encode`, `rerank` and `classify` share: the lines of a file are answered, and handed on in order."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from client_sdk._call.collect import finite_rows, read_late
from client_sdk._call.kinds import AnswerKind
from client_sdk._call.options import ACTIVATIONS, PRIORITIES, request_parameters
from client_sdk._call.plan import DEFAULT_BATCH_SIZE
from client_sdk._call.precision import Converter
from client_sdk._call.progress import Progress
from client_sdk._call.sparse import SparseVector, read_sparse
from client_sdk._call.texts import Text
from client_sdk._commands.encode_input import Lines, WrongLine
from client_sdk._commands.encode_output import Taker
from client_sdk._errors import InvalidArgument, ServerError
from client_sdk._kinds import MULTI, SPARSE
from client_sdk._session import Session
from client_sdk._transport.base import Arrays, Parameters


def add_line_arguments(parser: argparse.ArgumentParser, output: str, *, skipped: str, pairs: bool = True) -> None:
    """Input and output of a command; `output` and `skipped` go into the help of -o and --on-error."""
    parser.add_argument("file", nargs="?", help="one text a line, UTF-8; - is standard input (default)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=output)
    if pairs:
        help_of_pairs = "a line is two texts with a tab between, encoded together"
        parser.add_argument("--pairs", action="store_true", help=help_of_pairs)
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="a line that is blank, not UTF-8 or refused by the server: stop (default), or skip it. Then "
        f"{skipped}, and FILE.skipped.jsonl, or standard error, says which were skipped and why",
    )


def add_score_arguments(parser: argparse.ArgumentParser, top_k: str) -> None:
    """The options of commands whose model gives scores; `top_k` is what that many are kept of."""
    parser.add_argument("--top-k", type=int, metavar="K", help=f"{top_k}; default: all")
    parser.add_argument(
        "--activation", choices=ACTIVATIONS, help="what makes scores of logits; default: the model's own"
    )


def add_call_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that any call has."""
    add_text_arguments(parser)
    parser.add_argument(
        "--priority",
        choices=PRIORITIES,
        help="which texts the network takes first; default: bulk if there is more than one request",
    )
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="a bar on standard error; needs tqdm; default: on a terminal, if tqdm is there",
    )


def add_text_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of them that say how texts are read, and by which model."""
    parser.add_argument("--max-seq-len", type=int, metavar="TOKENS", help="tokens to use of each text")
    parser.add_argument(
        "--truncate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="cut longer texts (default), or take them as wrong",
    )
    parser.add_argument("--prompt", type=as_utf8, help="put before each text, of a pair before the first")
    parser.add_argument(
        "--prompt-name", type=as_utf8, metavar="NAME", help="the same, by the name of one of the model's prompts"
    )
    parser.add_argument(
        "--model-version", type=int, metavar="N", help="among those that are served; default: the highest"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help=f"texts in a request; default: {DEFAULT_BATCH_SIZE}, or fewer long ones",
    )


def parameters_of(arguments: argparse.Namespace, **own: Any) -> Parameters:
    """What a command asks of each text: the options of any call, and its `own`; raises InvalidArgument."""
    return request_parameters(
        max_seq_len=arguments.max_seq_len,
        truncate=arguments.truncate,
        prompt=arguments.prompt,
        prompt_name=arguments.prompt_name,
        priority=arguments.priority,
        **own,
    )


class Run:
    """All the lines of one file, in one call, so that one model answers all.

    Attributes:
        skips: Whether wrong lines are left out.
        deadline: Of all of it.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        session: Session,
        lines: Lines,
        total: int | None,
        skipped: list[WrongLine] | None,
    ) -> None:
        """`skipped`: has those that are left out; None: the first one ends the run."""
        self.skips = skipped is not None
        self.deadline = session.settings.deadline(None)
        self._arguments = arguments
        self._session = session
        self._lines = lines
        self._total = total
        self._skipped = skipped

    def answer(
        self,
        answers: Answers,
        parameters: Parameters,
        taker: Taker[Any],
        *,
        query: str | None = None,
        identity: str | None = None,
    ) -> None:
        """Have `taker` handed what the model answers to each line.

        Args:
            answers: What is asked for.
            parameters: Of the requests.
            taker: Takes each as soon as those before it are there.
            query: Put before each line, to make a pair of it.
            identity: Of the model that is to answer, if something has been asked about it.

        Raises:
            ClientError: A line is wrong, or there is no answer.
        """
        lines, session, arguments = self._lines, self._session, self._arguments
        texts: Iterable[Text] = lines if query is None else ((query, cast(str, line)) for line in lines)
        progress = Progress(self._total, _wants_progress(arguments.progress))
        with contextlib.closing(progress):
            progress.begin()
            rows = _RowsInOrder(answers, lines, taker, progress)
            job = AnswerKind(answers.role, answers.outputs, lambda _: rows, identity).job(
                session.settings.model, texts, parameters, arguments.batch_size, model_version=arguments.model_version
            )
            if (skipped := self._skipped) is not None:
                job.leave_out = lambda position, reason: rows.leave_out(position, reason, skipped.append)
            try:
                session.run(job, self.deadline)
            except InvalidArgument as error:
                raise _with_line_number(error, lines) from None
            if lines.wrong is not None:
                raise lines.wrong
            if not rows.answered:
                raise InvalidArgument("the server refused every line, and so nothing is written")

    def report(self, output: Path | None) -> None:
        """Say which lines were skipped: beside the file that was written, or on standard error where none was.

        What an earlier run has said of that file does not stay there.
        """
        skipped = sorted(self._skipped or (), key=lambda line: line.number)
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


@contextlib.contextmanager
def open_run(arguments: argparse.Namespace, session: Session) -> Iterator[Run]:
    """The lines that a command's arguments name, looked through where they can be.

    Raises:
        InvalidArgument: There is none, or one is wrong.
        OSError: The file cannot be read.
    """
    skipped: list[WrongLine] | None = [] if arguments.on_error == "skip" else None
    leave_out: Callable[[WrongLine], object] = _stop if skipped is None else skipped.append
    file = "-" if arguments.file is None else arguments.file
    name = "standard input" if file == "-" else file
    with _opened(file) as stream:
        lines = Lines(stream, name, getattr(arguments, "pairs", False), leave_out)
        total = lines.count(_stop if skipped is None else lambda line: None)
        yield Run(arguments, session, lines, total, skipped)


class Answers(Protocol):
    """What is asked of a model.

    Attributes:
        role: The end of its name.
        outputs: Of it.
    """

    role: str
    outputs: tuple[str, ...]

    def read(self, positions: Sequence[int], reply: Arrays) -> Iterable[Any]:
        """The answer to each of the texts at these positions."""

    def together(self, answers: list[Any]) -> Any:
        """Those of several texts, as a `Taker` takes them."""


class Numbers:
    """A row of an output for each text: [N, D] together."""

    role = ""

    def __init__(self, output: str, width: int | None = None, convert: Converter = lambda rows: rows) -> None:
        """`width`: numbers in an answer, if that is known; `convert` makes what is kept of the rows of a reply."""
        self.outputs: tuple[str, ...] = (output,)
        self._width = width
        self._convert = convert

    def read(self, positions: Sequence[int], reply: Arrays) -> Iterable[npt.NDArray[Any]]:
        """Rows that are as wide as all others."""
        (output,) = self.outputs
        found = finite_rows(reply, output, positions)
        self._width = self._width or found.shape[1]
        if found.shape[1] != self._width:
            raise ServerError(
                f"{output} changed from {self._width} to {found.shape[1]} values a text: was the model replaced? "
                "Try again"
            )
        return self._convert(found)

    def together(self, answers: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """[N, D]."""
        return np.stack(answers)


class WeighedWords:
    """A sparse vector for each text."""

    role = SPARSE.role
    outputs: tuple[str, ...] = ("INDICES", "WEIGHTS")

    def read(self, positions: Sequence[int], reply: Arrays) -> Iterable[SparseVector]:
        """Each without what pads it."""
        return read_sparse(reply, positions, 0)

    def together(self, answers: list[SparseVector]) -> list[SparseVector]:
        """As they are."""
        return answers


class LateVectors:
    """Of each text the vectors of its tokens that count in late interaction: [T, D]."""

    role = MULTI.role
    outputs: tuple[str, ...] = ("TOKEN_EMBEDDING", "ATTENTION_MASK")

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension

    def read(self, positions: Sequence[int], reply: Arrays) -> Iterable[npt.NDArray[np.float32]]:
        """Each without what does not count."""
        return read_late(reply, positions, self._dimension)

    def together(self, answers: list[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        """As they are."""
        return answers


class _RowsInOrder:
    """Puts the rows of replies into the order of their lines; hands each on as soon as those before it are there.

    Attributes:
        answered: How many have been handed on.
    """

    def __init__(self, answers: Answers, lines: Lines, taker: Taker[Any], progress: Progress) -> None:
        self.answered = 0
        self._answers = answers
        self._lines = lines
        self._taker = taker
        self._progress = progress
        self._rows: dict[int, Any] = {}  # None: there will be none
        self._next = 0

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Hand on what is next in order."""
        self._rows.update(zip(positions, self._answers.read(positions, reply), strict=True))
        self._hand_on()

    def leave_out(self, position: int, reason: str, report: Callable[[WrongLine], object]) -> None:
        """The text at `position` was refused."""
        report(WrongLine(self._lines.number(position), reason.removeprefix(":").strip()))
        self._rows[position] = None
        self._hand_on()

    def result(self) -> None:
        """It is handed on already."""

    only = result

    def _hand_on(self) -> None:
        lines, answers = [], []
        while self._next in self._rows:
            answer, line = self._rows.pop(self._next), self._lines.take()
            self._next += 1
            if answer is not None:
                lines.append(line)
                answers.append(answer)
        if lines:
            self._taker.write(lines, self._answers.together(answers))
        self.answered += len(lines)
        self._progress.update(len(lines))


def _stop(line: WrongLine) -> None:
    raise line


def _opened(file: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if file != "-":
        return open(file, "rb")
    if sys.stdin is None:  # closed by whoever started the program
        raise InvalidArgument("standard input is closed: give a file")
    return contextlib.nullcontext(sys.stdin.buffer)


def _with_line_number(error: InvalidArgument, lines: Lines) -> InvalidArgument:
    if error.text_index is None:
        return error
    return InvalidArgument(f"line {lines.number(error.text_index)}{error.reason}")


def as_utf8(argument: str) -> str:
    """An argument as it was typed, in UTF-8, whatever the locale took it for."""
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        return argument


def _wants_progress(asked: bool | None) -> bool:
    if asked is not None:
        return asked
    return sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
