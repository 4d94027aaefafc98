"""The command line: `python -m client_sdk serve | gateway | encode | rerank | classify | corpus | info | health`."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from client_sdk._commands import classify, connection_arguments, corpus, encode, gateway, health, rerank, serve
from client_sdk._commands.signals import sigterm_as_ctrl_c
from client_sdk._errors import ClientError, DeadlineExceeded, InvalidArgument, ServerBusy, ServerUnreachable
from client_sdk._settings import DEFAULT_TIMEOUT
from client_sdk._version import __version__

FAILED = 1
REFUSED = 2  # also argparse's own
TRY_LATER = 3
INTERRUPTED = 130  # 128 + SIGINT
OUTPUT_CLOSED = 141  # 128 + SIGPIPE

_PROG = "python -m client_sdk"
_EXAMPLES = {
    "serve": (
        "serve --model-repository model_repository",
        "serve --model-repository model_repository --grpc-port 9001 --api-key-file key",
        "serve --model-repository model_repository -- --http-thread-count=16",
    ),
    "gateway": ("gateway", "gateway --triton gpu-1:8001,gpu-2:8001 --listen 127.0.0.1:8080"),
    "info": ("info", "info --model support --url https://bert.example.com"),
    "encode": (
        "encode sentences.txt -o vectors.npy",
        "encode < sentences.txt > vectors.jsonl",
        'encode queries.txt -o queries.jsonl --prompt "query: " --url http://localhost:8000',
        "encode sentences.txt -o words.jsonl --kind sparse --model splade",
        "encode documents.txt -o vectors.npz --kind multi --input-type document --model colbert",
        "encode pairs.tsv --pairs -o vectors.npy --on-error skip",
        "encode sentences.txt -o vectors.npy --url gpu-1:8001,gpu-2:8001",
    ),
    "rerank": (
        'rerank "who may use it?" documents.txt --model reranker --top-k 10',
        'rerank "who may use it?" < documents.txt > ranked.jsonl',
    ),
    "classify": (
        "classify texts.txt --model sentiment --top-k 3",
        "classify pairs.tsv --pairs -o labels.jsonl --on-error skip",
    ),
    "corpus": (
        "corpus texts/ --output vectors/ --id-column id",
        "corpus s3://bucket/texts/ --output s3://bucket/vectors/ --triton gpu-1:8001,gpu-2:8001 --ray-address auto",
        "corpus texts.jsonl.gz --output vectors/ --columns title,url --precision float16 --dry-run",
    ),
    "health": ("health", "health --url gpu-1:8001,gpu-2:8001 --timeout 40"),
}
_OF_LINES = {"encode": encode, "rerank": rerank, "classify": classify}
_EPILOG = """\
environment:
  CLIENT_SDK_URL, CLIENT_SDK_MODEL   defaults of --url and --model
  CLIENT_SDK_API_KEY                 the key of a restricted server, if --api-key-file is not given

exit codes:
  0 done    1 the server, the machine or a file failed    2 the arguments or a text of the input are wrong
  3 not reachable, busy or too slow: try again later
  130 Ctrl-C, SIGTERM or SIGHUP    141 the reader of the output is gone
  (health: 0 a vector came, or the server is busy and said so; 1 neither)
  (gateway: 0 Ctrl-C or SIGTERM)
  (serve: 0 Ctrl-C or SIGTERM; 2 options that cannot be parsed; 1 all else)
"""


def main(argv: Sequence[str] | None = None, prog: str = _PROG, others: Mapping[str, str] = MappingProxyType({})) -> int:
    """Run one command and give its exit code; errors are one line on standard error, and all output is UTF-8.

    Args:
        argv: The arguments; None: those of the process.
        prog: What the program is called.
        others: Further commands that the program has, which are not run here, each with its line of help.
    """
    if sys.stderr is None:  # closed by whoever started the program; print() would take standard output for it
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the program runs
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    given = list(sys.argv[1:] if argv is None else argv)
    triton_options: list[str] = []
    if given[:1] == ["serve"] and "--" in given:
        end = given.index("--")
        given, triton_options = given[:end], given[end + 1 :]
    arguments = _parser(prog, others).parse_args(given, argparse.Namespace(triton_options=triton_options))
    try:
        code = _run(arguments)
        _flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return OUTPUT_CLOSED
    except ClientError as error:
        _complain(error)
        if isinstance(error, InvalidArgument):
            return REFUSED
        return TRY_LATER if isinstance(error, (ServerUnreachable, ServerBusy, DeadlineExceeded)) else FAILED
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename else error)
        return FAILED
    finally:
        _leave_nothing_to_flush()


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "serve":
        return serve.run(arguments)
    if arguments.command == "gateway":
        return gateway.run(arguments)
    if arguments.command == "corpus":
        return corpus.run(arguments)
    if arguments.command == "health":
        return health.run(arguments)
    with sigterm_as_ctrl_c(hang_up=True), connection_arguments.open_session(arguments) as session:
        if arguments.command in _OF_LINES:
            code: int = _OF_LINES[arguments.command].run(arguments, session)
            return code
        info = session.info(session.settings.deadline(None))
        print(json.dumps(asdict(info), indent=2, ensure_ascii=False))
        return 0


def _flush() -> None:
    if sys.stdout is not None:  # closed by whoever started the program
        sys.stdout.flush()


def _leave_nothing_to_flush() -> None:
    """Python flushes standard output when it ends; what fails then is a traceback, and an exit code of Python's own."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(error: object) -> None:
    print(f"error: {error}", file=sys.stderr)


class _Command(argparse.ArgumentParser):
    """Finds a file also where options stand between it and another argument, which argparse did not always."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's."""
        found, rest = super().parse_known_args(args, namespace)
        if rest and not rest[0].startswith("-") and getattr(found, "file", "-") is None:
            found.file = rest.pop(0)
        return found, rest


def _parser(prog: str, others: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="BERT embeddings from a Triton Inference Server.",
        epilog=f"{_examples(prog, *_EXAMPLES)}\n{_EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Command)

    def add(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=textwrap.fill(description, 100),
            epilog=_examples(prog, name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    serving = add(
        "serve",
        "run a server on this machine",
        "Serve a model repository on this machine until Ctrl-C. Behind -- stand options of tritonserver; those that "
        "decide what is served, and to whom, are refused, with what to use instead.",
    )
    serve.add_arguments(serving)
    answering = add(
        "gateway",
        "answer other projects' clients over HTTP",
        "Answer what OpenAI's and other clients ask over HTTP, by what a Triton server says, until Ctrl-C.",
    )
    gateway.add_arguments(answering)
    for name, summary, description in (
        ("encode", "encode a file, one text a line", "Encode texts, one a line."),
        ("rerank", "rank a file's lines by a query", "Rank documents, one a line, by how well they answer a query."),
        ("classify", "classify a file, one text a line", "Say which labels fit texts, one a line."),
    ):
        command = add(name, summary, description)
        _OF_LINES[name].add_arguments(command)
        connection_arguments.add_arguments(command, None, "for all of it")
    encoding = add(
        "corpus",
        "encode folders of files, of any size, into Parquet",
        "Encode each row of files of any size into Parquet. Stopped or killed and started again, it goes on: each row "
        "of the input is in the output once. It runs on Ray Data, on this machine or a cluster.",
    )
    corpus.add_arguments(encoding)
    connection_arguments.add_arguments(
        encoding,
        None,
        "that an answer may take",
        url="--triton",
        no_url="a server that serves --model-repository for as long as the job lasts",
    )
    info = add("info", "say what a server's model is", "Say, as JSON, what a server's model is.")
    connection_arguments.add_arguments(info, DEFAULT_TIMEOUT, "to wait")
    checking = add(
        "health",
        "make one request, and say whether the server serves",
        "Make one real request of each server, and say whether a vector came: for health checks. A server that answers "
        "that it is busy is healthy; one that does not answer in time is not, so let the request wait longer than the "
        "server's queue may (30 s).",
    )
    connection_arguments.add_arguments(checking, health.DEFAULT_TIMEOUT, "to wait for each server")
    for name, summary in others.items():
        commands.add_parser(name, help=summary, add_help=False)
    return parser


def _examples(prog: str, *commands: str) -> str:
    lines = [f"  {prog} {example}\n" for command in commands for example in _EXAMPLES[command]]
    return f"examples:\n{''.join(lines)}"
