"""`python -m client_sdk classify`: one text a line, to JSON lines with the labels that fit each best."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import IO

from client_sdk._call.questions import labels_of
from client_sdk._call.scores import Scores, checked_top_k, labelled
from client_sdk._call.texts import Text
from client_sdk._commands.answer_lines import (
    Numbers,
    add_call_arguments,
    add_line_arguments,
    add_score_arguments,
    open_run,
    parameters_of,
)
from client_sdk._commands.encode_output import JsonLines, check_output, described, open_output, shortest
from client_sdk._session import Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `classify`, but for the server's address."""
    add_line_arguments(
        parser,
        ".jsonl: an object a line, with text and labels, each with name and score, best first (default: the same on "
        "standard output). What is done before an error is kept as FILE.partial",
        skipped="each object has the number of its line as line",
    )
    add_score_arguments(parser, "labels to give of each text")
    add_call_arguments(parser)


def run(arguments: argparse.Namespace, session: Session) -> int:
    """Classify and write; raises ClientError, or OSError for files."""
    check_output(arguments.output, ".jsonl")
    top_k = checked_top_k(arguments.top_k)
    parameters = parameters_of(arguments, activation=arguments.activation)
    with open_run(arguments, session) as lines:
        names, identity = session.ask(labels_of(session.settings.model), lines.deadline)
        make = partial(LabelLines, names=names, top_k=top_k, numbered=lines.skips)
        with open_output(arguments.output, make, "texts", lines.report) as writer:
            lines.answer(Numbers("SCORES", len(names)), parameters, writer, identity=identity)
    return 0


class LabelLines(JsonLines):
    """Text and labels of each line, and its number if `numbered`."""

    def __init__(self, stream: IO[bytes], names: Sequence[str], top_k: int | None, *, numbered: bool) -> None:
        super().__init__(stream)
        self._names = names
        self._top_k = top_k
        self._numbered = numbered

    def write(self, lines: Sequence[tuple[int, Text]], scores: Scores) -> None:
        """A line each, of scores [N, L]."""
        found = labelled(scores, self._names, self._top_k)
        self.put(
            {
                **described(line, self._numbered),
                "labels": [{"name": label.name, "score": shortest(label.score)} for label in labels],
            }
            for line, labels in zip(lines, found, strict=True)
        )
