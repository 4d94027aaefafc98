"""`python -m client_sdk encode`: one text a line, to JSON lines or a .npy file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from client_sdk._call.options import POOLINGS
from client_sdk._call.questions import sparse_dimension
from client_sdk._commands.answer_lines import (
    Numbers,
    WeighedWords,
    add_call_arguments,
    add_line_arguments,
    open_run,
    parameters_of,
)
from client_sdk._commands.encode_output import (
    Array,
    VectorLines,
    Vectors,
    WordLines,
    Writer,
    check_output,
    open_output,
)
from client_sdk._errors import InvalidArgument
from client_sdk._session import Session

DENSE, SPARSE = "dense", "sparse"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `encode`, but for the server's address."""
    add_line_arguments(
        parser,
        ".npy: an array [N, D] float32; .jsonl: an object a line, with text and vector "
        "(default: the same on standard output). What is done before an error is kept as FILE.partial",
        skipped=".npy has no row for it, JSON lines have the number of each line as line",
    )
    parser.add_argument(
        "--kind",
        choices=(DENSE, SPARSE),
        default=DENSE,
        help="of vectors that the model gives: dense (default), or sparse, whose JSON lines have the indices of words, "
        "the heaviest first, and their weights",
    )
    parser.add_argument("--max-active-dims", type=int, metavar="N", help="words to keep of each sparse vector")
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
    add_call_arguments(parser)


def run(arguments: argparse.Namespace, session: Session) -> int:
    """Encode and write; raises ClientError, or OSError for files."""
    return (_sparse if arguments.kind == SPARSE else _dense)(arguments, session)


def _dense(arguments: argparse.Namespace, session: Session) -> int:
    output: Path | None = arguments.output
    check_output(output, ".npy", ".jsonl")
    _check_unset(arguments, "sparse", "max_active_dims")
    parameters = parameters_of(
        arguments,
        pooling=arguments.pooling,
        normalize=arguments.normalize,
        truncate_dim=arguments.truncate_dim,
    )
    with open_run(arguments, session) as lines:
        is_array = output is not None and output.suffix == ".npy"
        make: Callable[[IO[bytes]], Writer[Vectors]] = Array if is_array else partial(VectorLines, numbered=lines.skips)
        with open_output(output, make, "vectors") as writer:
            lines.answer(Numbers("EMBEDDING"), parameters, writer)
    return 0


def _sparse(arguments: argparse.Namespace, session: Session) -> int:
    check_output(arguments.output, ".jsonl")
    _check_unset(arguments, "dense", "pooling", "normalize", "truncate_dim")
    parameters = parameters_of(arguments, max_active_dims=arguments.max_active_dims)
    with open_run(arguments, session) as lines:
        _, identity = session.ask(sparse_dimension(session.settings.model), lines.deadline)  # refuses another kind
        with open_output(arguments.output, partial(WordLines, numbered=lines.skips), "vectors") as writer:
            lines.answer(WeighedWords(), parameters, writer, identity=identity)
    return 0


def _check_unset(arguments: argparse.Namespace, kind: str, *names: str) -> None:
    """Raise InvalidArgument for an option of vectors of the other kind."""
    for name in names:
        if getattr(arguments, name) is not None:
            raise InvalidArgument(
                f"--{name.replace('_', '-')} is for {kind} vectors: leave it out, or give --kind {kind}"
            )
