"""`python -m client_sdk encode`: one text a line, to JSON lines or a .npy file."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ._client import Client
from ._collect import Rows
from ._errors import InvalidArgument
from ._job import TEXT_INDEX
from ._options import POOLINGS
from ._progress import Progress
from ._settings import DEFAULT_BATCH_SIZE

CHUNK = 2048
"""Lines that are read, encoded and written at a time; `--timeout` is for each chunk."""

CHUNK_TIMEOUT = 600.0  # seconds

Vectors = npt.NDArray[np.float32]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `encode`, but for the server's address."""
    parser.add_argument("file", nargs="?", default="-", help="one text a line, UTF-8; - is standard input (default)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=".npy: an array [N, D] float32; .jsonl: an object a line, with text and vector "
        "(default: the same on standard output)",
    )
    parser.add_argument("--pooling", choices=POOLINGS, help="default: the model's own")
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="scale vectors to length 1; default: the model's",
    )
    parser.add_argument("--truncate-dim", type=int, metavar="D", help="numbers to keep of each vector")
    parser.add_argument("--max-seq-len", type=int, metavar="TOKENS", help="tokens to use of each text")
    parser.add_argument("--prompt", help="put before each text")
    parser.add_argument("--prompt-name", metavar="NAME", help="the same, by the name of one of the model's prompts")
    parser.add_argument("--batch-size", type=int, default=DEFAULT_BATCH_SIZE, metavar="N", help="texts in a request")
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="a bar on standard error; needs tqdm; default: on a terminal, if tqdm is there",
    )


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Encode and write; raises ClientError, or OSError for the files."""
    output: Path | None = arguments.output
    if output is not None and output.suffix not in (".npy", ".jsonl"):
        raise InvalidArgument(f"output {str(output)!r}: the name must end in .npy or .jsonl")
    if output is not None and not output.parent.is_dir():
        raise InvalidArgument(f"output {str(output)!r}: there is no directory {str(output.parent)!r}")
    options = {
        "pooling": arguments.pooling,
        "normalize": arguments.normalize,
        "truncate_dim": arguments.truncate_dim,
        "max_seq_len": arguments.max_seq_len,
        "prompt": arguments.prompt,
        "prompt_name": arguments.prompt_name,
        "batch_size": arguments.batch_size,
        "timeout": arguments.timeout,
    }
    progress = Progress(None, _wants_progress(arguments.progress))
    with contextlib.closing(progress), _opened(arguments.file) as lines:
        chunks = _encoded(client, _texts(lines, arguments.file), options, progress)
        if output is None:
            _write_json_lines(sys.stdout, chunks)
        elif output.suffix == ".jsonl":
            with _replacing(output) as stream, io.TextIOWrapper(stream, "utf-8", write_through=True) as text:
                _write_json_lines(text, chunks)
        else:
            rows = Rows("EMBEDDING", np.float32, None)
            done = 0
            for texts, vectors in chunks:
                rows.take(range(done, done + len(texts)), {"EMBEDDING": vectors})
                done += len(texts)
            with _replacing(output) as stream:
                np.save(stream, rows.result())
    return 0


def _opened(file: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    return contextlib.nullcontext(sys.stdin.buffer) if file == "-" else open(file, "rb")


def _texts(lines: Iterable[bytes], file: str) -> Iterator[str]:
    name = "standard input" if file == "-" else file
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"line {number} of {name} is not UTF-8: {error.reason}") from None
        if not text.strip():
            raise InvalidArgument(f"line {number} of {name} is blank: a vector of nothing has no meaning")
        yield text
    if number == 0:
        raise InvalidArgument(f"{name} is empty: there is nothing to encode")


def _encoded(
    client: Client, texts: Iterator[str], options: dict[str, Any], progress: Progress
) -> Iterator[tuple[list[str], Vectors]]:
    done = 0
    while chunk := list(islice(texts, CHUNK)):
        try:
            vectors = client.encode(chunk, **options)
        except InvalidArgument as error:
            raise _with_line_number(error, done) from None
        yield chunk, vectors
        done += len(chunk)
        progress.update(len(chunk))


def _with_line_number(error: InvalidArgument, done: int) -> InvalidArgument:
    match = TEXT_INDEX.match(str(error))
    return error if match is None else InvalidArgument(f"line {done + int(match[1]) + 1}{match[2]}")


def _write_json_lines(stream: IO[str], chunks: Iterable[tuple[list[str], Vectors]]) -> None:
    for texts, vectors in chunks:
        for text, vector in zip(texts, vectors.tolist(), strict=True):
            # Nine digits are enough to give each float32 back exactly.
            numbers = ", ".join([f"{number:.9g}" for number in vector])
            stream.write(f'{{"text": {json.dumps(text, ensure_ascii=False)}, "vector": [{numbers}]}}\n')
    stream.flush()


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when it is complete, and never exists otherwise."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
        try:
            yield stream
            stream.close()
            os.chmod(stream.name, 0o666 & ~_umask())
            os.replace(stream.name, path)
        except BaseException:
            os.unlink(stream.name)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _wants_progress(asked: bool | None) -> bool:
    if asked is not None:
        return asked
    return sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
