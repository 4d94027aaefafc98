"""`python -m client_sdk corpus`: folders of texts to vectors, for any number of rows."""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from client_sdk._commands import connection_arguments
from client_sdk._commands.answer_lines import add_text_arguments
from client_sdk._commands.encode import add_vector_arguments, ranges_of
from client_sdk._commands.signals import sigterm_as_ctrl_c
from client_sdk._errors import ClientError, InvalidArgument
from client_sdk._server.local_server import LocalServer
from client_sdk._settings import has_default_url

_OPTIONS = (
    "input_type",
    "pooling",
    "normalize",
    "truncate_dim",
    "precision",
    "max_seq_len",
    "truncate",
    "prompt",
    "prompt_name",
    "model_version",
    "batch_size",
)
"""Of `Client.encode`, as the command line has them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `corpus`."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="files and folders, local or s3:// and gs://, of .parquet, .jsonl, .csv, .tsv or .txt, those of lines "
        "also packed (.gz, .bz2, .zst, .lz4)",
    )
    parser.add_argument(
        "--output",
        "-o",
        required=True,
        metavar="DIR",
        help="vectors/*.parquet and, for rows that cannot be encoded, errors/*.jsonl; one that was begun is gone "
        "on with",
    )
    parser.add_argument("--text-column", default="text", metavar="NAME", help="of the texts; default: text")
    parser.add_argument(
        "--id-column",
        metavar="NAME",
        help="copied to the output, and the key in a store; default: a number for each row, with its file and row",
    )
    parser.add_argument(
        "--columns", type=_names, default=(), metavar="NAME[,NAME...]", help="further ones to copy to the output"
    )
    parser.add_argument(
        "--max-errors", type=int, metavar="N", help="stop when more rows cannot be encoded; default: never"
    )
    parser.add_argument(
        "--rows-per-file",
        type=int,
        metavar="N",
        help="of the output, at most, and what each worker loses when it is killed; default: 16384",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that talk to servers; default: two for each server"
    )
    parser.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="of a Ray cluster to run on, such as auto; default: Ray starts on this machine, and stops with the job",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="encode a sample, say how large the job is, and write nothing"
    )
    parser.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, default=True, help="a line every few seconds (default)"
    )
    parser.add_argument(
        "--to",
        metavar="URL",
        help="of a store that the vectors are written to when all are there, each over the one with the same id, and "
        "that is asked before whether it can hold them: postgresql://, qdrant://, lance:, faiss:, opensearch://; see "
        "docs/stores.md",
    )
    add_vector_arguments(parser)
    add_text_arguments(parser)
    parser.add_argument(
        "--model-repository",
        default="model_repository",
        metavar="DIR",
        help="what a server of the job's own serves, without --triton and CLIENT_SDK_URL; default: model_repository",
    )


def run(arguments: argparse.Namespace) -> int:
    """Encode all rows; raises ClientError, or OSError for files."""
    try:
        from client_sdk.corpus import CorpusSettings, estimate, run, stores
    except ImportError as error:
        raise ClientError(f"corpora need more ({error}): pip install 'bert-on-triton[corpus]'") from None
    given = {name: getattr(arguments, name) for name in ("rows_per_file",) if getattr(arguments, name) is not None}
    settings = CorpusSettings(
        inputs=arguments.inputs,
        output=arguments.output,
        client=connection_arguments.settings_of(arguments),
        text_column=arguments.text_column,
        id_column=arguments.id_column,
        columns=arguments.columns,
        options={
            **{name: value for name in _OPTIONS if (value := getattr(arguments, name)) is not None},
            "ranges": ranges_of(arguments),
        },
        max_errors=arguments.max_errors,
        workers=arguments.workers,
        ray_address=arguments.ray_address,
        **given,
    )
    if arguments.to is not None:
        if "://" in arguments.output:
            raise InvalidArgument(f"--to reads the vectors from this machine, and --output is {arguments.output}")
        stores.checked(arguments.to)
    warnings.filterwarnings("ignore", module=r"ray\.")  # advice about pipelines, to those who write them
    # Ray's processes are forked to run another program at once, and not LanceDB.
    warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)
    with sigterm_as_ctrl_c(), _served(arguments) as url:
        if url is not None:
            settings = replace(settings, client=connection_arguments.settings_of(arguments, url))
        if arguments.dry_run:
            print(estimate(settings))
            return 0
        try_out = None if arguments.to is None else partial(stores.load, url=arguments.to)
        summary = run(settings, _tell if arguments.progress else None, try_out)
        print(summary, flush=True)
    if arguments.to is not None:
        rows = stores.load(arguments.output, arguments.to) if summary.encoded else 0
        print(f"{rows:,} rows written to the store")
    return 0


def _names(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


@contextlib.contextmanager
def _served(arguments: argparse.Namespace) -> Iterator[str | None]:
    """The address of a server of the job's own, where none was named."""
    if arguments.url is not None or has_default_url():
        yield None
        return
    with LocalServer(arguments.model_repository, supervise=True) as server:
        yield server.grpc_url


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
