"""`python -m client_sdk encode`: one text a line, to JSON lines or arrays in NumPy's format."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from client_sdk._call.options import INPUT_TYPES, POOLINGS
from client_sdk._call.precision import PRECISIONS, Scalar, converter
from client_sdk._call.questions import measured_ranges, multi_dimension, sparse_dimension
from client_sdk._commands.answer_lines import (
    LateVectors,
    Numbers,
    WeighedWords,
    add_call_arguments,
    add_line_arguments,
    open_run,
    parameters_of,
)
from client_sdk._commands.encode_output import (
    Array,
    TokenArrays,
    TokenFile,
    TokenLines,
    VectorLines,
    Vectors,
    WordLines,
    Writer,
    check_output,
    open_output,
)
from client_sdk._errors import InvalidArgument
from client_sdk._session import Session

_DENSE, _SPARSE, _MULTI = "dense", "sparse", "multi"

# Options that are for vectors of one kind alone.
_OWN = {_DENSE: ("pooling", "normalize", "truncate_dim", "precision", "ranges"), _SPARSE: ("max_active_dims",)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `encode`, but for the server's address."""
    add_line_arguments(
        parser,
        ".npy: an array [N, D], of dense vectors alone; .npz: of kind multi, vectors [W, D] of all texts end "
        "to end, and lengths [N], how many each has; .jsonl: an object a line, with text and vector (default: the same "
        "on standard output). What is done before an error is kept as FILE.partial",
        skipped="arrays have no row for it, JSON lines have the number of each line as line",
    )
    parser.add_argument(
        "--kind",
        choices=(_DENSE, _SPARSE, _MULTI),
        default=_DENSE,
        help="of vectors that the model gives: dense (default); sparse, whose JSON lines have the indices of words, "
        "the heaviest first, and their weights; or multi, for late interaction, whose JSON lines have vectors, one for "
        "each token that counts",
    )
    add_vector_arguments(parser)
    parser.add_argument("--max-active-dims", type=int, metavar="N", help="words to keep of each sparse vector")
    add_call_arguments(parser)


def add_vector_arguments(parser: argparse.ArgumentParser) -> None:
    """What a dense vector is made of."""
    parser.add_argument(
        "--input-type",
        choices=INPUT_TYPES,
        help="what the texts are in a search, by which the model chooses its own prompt, and for late interaction what "
        "it makes of them",
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
    parser.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        help="of numbers: float32 (default), float16, or as sentence-transformers' quantize_embeddings int8, uint8, "
        "binary, ubinary",
    )
    parser.add_argument(
        "--ranges",
        type=Path,
        metavar="FILE.npy",
        help="for int8 and uint8: the least and the largest value of each number, [2, D]; default: those that the "
        "export has measured, for vectors as the model gives them by itself",
    )


def run(arguments: argparse.Namespace, session: Session) -> int:
    """Encode and write; raises ClientError, or OSError for files."""
    for kind, names in _OWN.items():
        for name in names:
            if kind != arguments.kind and getattr(arguments, name) is not None:
                raise InvalidArgument(
                    f"--{name.replace('_', '-')} is for {kind} vectors: leave it out, or give --kind {kind}"
                )
    return {_DENSE: _dense, _SPARSE: _sparse, _MULTI: _multi}[arguments.kind](arguments, session)


def _dense(arguments: argparse.Namespace, session: Session) -> int:
    output: Path | None = arguments.output
    check_output(output, ".npy", ".jsonl")
    parameters = parameters_of(
        arguments,
        input_type=arguments.input_type,
        pooling=arguments.pooling,
        normalize=arguments.normalize,
        truncate_dim=arguments.truncate_dim,
    )
    convert = converter(arguments.precision or "float32", ranges_of(arguments), learns=True)
    identity: str | None = None
    with open_run(arguments, session) as lines:
        if isinstance(convert, Scalar) and not convert.has_ranges:
            version = arguments.model_version
            asked = measured_ranges(session.settings.model, convert.precision, parameters, version)
            measured = session.ask(asked, lines.deadline)
            convert.learn(measured.ranges)
            identity = measured.identity
        is_array = output is not None and output.suffix == ".npy"
        make: Callable[[IO[bytes]], Writer[Vectors]] = Array if is_array else partial(VectorLines, numbered=lines.skips)
        with open_output(output, make, "vectors", lines.report) as writer:
            lines.answer(Numbers("EMBEDDING", convert=convert), parameters, writer, identity=identity)
    return 0


def ranges_of(arguments: argparse.Namespace) -> npt.NDArray[Any] | None:
    """Those that are given; raises InvalidArgument, or OSError."""
    path: Path | None = arguments.ranges
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            ranges: npt.NDArray[Any] = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidArgument(f"--ranges {str(path)!r} holds no array in NumPy's format ({error})") from None
    return ranges


def _sparse(arguments: argparse.Namespace, session: Session) -> int:
    check_output(arguments.output, ".jsonl")
    parameters = parameters_of(arguments, input_type=arguments.input_type, max_active_dims=arguments.max_active_dims)
    with open_run(arguments, session) as lines:
        _, identity = session.ask(sparse_dimension(session.settings.model), lines.deadline)  # refuses another kind
        make = partial(WordLines, numbered=lines.skips)
        with open_output(arguments.output, make, "vectors", lines.report) as writer:
            lines.answer(WeighedWords(), parameters, writer, identity=identity)
    return 0


def _multi(arguments: argparse.Namespace, session: Session) -> int:
    output: Path | None = arguments.output
    check_output(output, ".npz", ".jsonl")
    if arguments.pairs:
        raise InvalidArgument("--pairs is not for --kind multi, which takes each text for itself")
    parameters = parameters_of(arguments, input_type=arguments.input_type)
    with open_run(arguments, session) as lines:
        dimension, identity = session.ask(multi_dimension(session.settings.model), lines.deadline)
        is_array = output is not None and output.suffix == ".npz"
        make: Callable[[IO[bytes]], Writer[TokenArrays]] = (
            partial(TokenFile, dimension=dimension) if is_array else partial(TokenLines, numbered=lines.skips)
        )
        with open_output(output, make, "texts", lines.report) as writer:
            lines.answer(LateVectors(dimension), parameters, writer, identity=identity)
    return 0
