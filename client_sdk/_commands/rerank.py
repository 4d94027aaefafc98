"""`python -m client_sdk rerank`: one document a line, to JSON lines of those that answer a query best."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import cast

from client_sdk._call.scores import Best, Scores, checked_query
from client_sdk._call.texts import Text
from client_sdk._commands.answer_lines import (
    Numbers,
    add_call_arguments,
    add_line_arguments,
    add_score_arguments,
    as_utf8,
    open_run,
    parameters_of,
)
from client_sdk._commands.encode_output import JsonLines, check_output, open_output, shortest
from client_sdk._session import Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `rerank`, but for the server's address."""
    parser.add_argument("query", type=as_utf8, help="what the documents are to answer")
    add_line_arguments(
        parser,
        ".jsonl: an object a line, with index (the place of the document's line, from 0), score and document, best "
        "first (default: the same on standard output)",
        skipped="the others keep their index",
        pairs=False,
    )
    add_score_arguments(parser, "documents to give; of a stream no more are kept")
    add_call_arguments(parser)


def run(arguments: argparse.Namespace, session: Session) -> int:
    """Rank and write; raises ClientError, or OSError for files."""
    check_output(arguments.output, ".jsonl")
    query = checked_query(arguments.query)
    best = _BestLines(arguments.top_k)
    parameters = parameters_of(arguments, activation=arguments.activation)
    with (
        open_run(arguments, session) as lines,
        open_output(arguments.output, JsonLines, "documents", lines.report) as writer,
    ):
        lines.answer(Numbers("SCORES"), parameters, best, query=query)
        writer.put({**one._asdict(), "score": shortest(one.score)} for one in best.result())
    return 0


class _BestLines(Best):
    """The documents that answer a query best, of a file's lines."""

    def write(self, lines: Sequence[tuple[int, Text]], scores: Scores) -> None:
        """Take each with its score, [N, 1]."""
        self.take([number - 1 for number, _ in lines], [cast(str, document) for _, document in lines], scores)
