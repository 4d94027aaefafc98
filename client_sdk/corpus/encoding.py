"""What a worker does: blocks of rows to blocks of vectors."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from client_sdk._call.collect import finite_rows
from client_sdk._call.kinds import AnswerKind
from client_sdk._call.precision import PRECISIONS, Converter
from client_sdk._checks import LONGEST_TEXT, utf8_problem
from client_sdk._errors import ClientError, DeadlineExceeded, InvalidArgument, ServerBusy, ServerUnreachable, StepDied
from client_sdk._session import Session
from client_sdk._transport.base import Arrays
from client_sdk.corpus.about import AboutVectors
from client_sdk.corpus.inputs import KEY, PROBLEM, TEXT, TOKENS, origin
from client_sdk.corpus.settings import VECTOR, CorpusSettings
from client_sdk.corpus.tally import Counts, Tally

_AWAY = (DeadlineExceeded, ServerBusy, ServerUnreachable, StepDied)
"""What may be over when a server has been started again."""

_SHORTEST_WAIT, _LONGEST_WAIT = 1.0, 30.0

_TOLD_EVERY = 1.0  # seconds between two words on a block that is under way


class BlockEncoder:
    """Makes vectors of the texts of blocks, with a client of its own.

    Args:
        settings: Of the job.
        about: What the output says of its vectors. All are of the model with its identity; another answers
            VersionChanged.
    """

    def __init__(self, settings: CorpusSettings, about: AboutVectors) -> None:
        self._settings = settings
        self._about = about
        self._convert = settings.converter()
        self._session = Session(settings.servers, "Corpus")

    def encode(self, block: pa.Table, tell: Callable[[int], object] | None = None) -> tuple[pa.Table, Counts]:
        """The block with vectors in place of its texts; null, with a problem, where one cannot be encoded.

        Args:
            block: Of rows that have been read.
            tell: Given how many of its texts have been answered, with each reply.
        """
        problems: list[str | None] = block.column(PROBLEM).to_pylist()
        if self._settings.id_column is not None:
            for row, known in enumerate(block.column(self._settings.id_column).to_pylist()):
                if known is None or known == "":
                    problems[row] = problems[row] or f"the id is {'null' if known is None else 'empty'}"
        texts, places = _readable(block.column(TEXT).to_pylist(), problems)
        vectors = _Vectors(len(problems), places, problems, self._convert, PRECISIONS[self._settings.precision], tell)
        if texts:
            self._answer(texts, vectors)
        rest = block.drop_columns([TEXT, PROBLEM])
        rest = rest.append_column(PROBLEM, pa.array(problems, pa.string()))
        rest = rest.append_column(TOKENS, pa.array(vectors.tokens))
        counts = Counts(
            texts=len(problems),
            refused=len(problems) - problems.count(None),
            tokens=int(vectors.tokens.sum()),
            cut=int((vectors.tokens > self._about.max_seq_len).sum()),
            servers=vectors.servers,
        )
        return rest.append_column(VECTOR, vectors.column(self._about.dimension)), counts

    def _answer(self, texts: list[str], vectors: _Vectors) -> None:
        """Have the texts answered, by a server that may be away for a while."""
        until = time.monotonic() + self._settings.patience
        wait = _SHORTEST_WAIT
        while True:
            try:
                return self._call(texts, vectors)
            except _AWAY:
                if time.monotonic() + wait > until:
                    raise
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _call(self, texts: list[str], vectors: _Vectors) -> None:
        options = self._settings.options
        vectors.servers.clear()  # of a try before this one, whose texts are all sent once more
        kind = AnswerKind("", ("EMBEDDING", "TOKEN_COUNT"), lambda _: vectors, self._about.identity, pairs=False)
        job = kind.job(
            self._settings.servers.model,
            texts,
            self._settings.parameters(),
            options.get("batch_size"),
            model_version=options.get("model_version"),
        )
        job.leave_out = vectors.leave_out
        job.answered = vectors.answered
        self._session.run(job, self._settings.servers.deadline(None))


def _readable(found: Sequence[bytes | None], problems: list[str | None]) -> tuple[list[str], list[int]]:
    """The texts that can be sent, and their places in the block; of the others it says why."""
    texts: list[str] = []
    places: list[int] = []
    for place, content in enumerate(found):
        if problems[place] is not None:
            continue
        text, problem = _decoded(content)
        if problem is not None:
            problems[place] = problem
        else:
            texts.append(text)
            places.append(place)
    return texts, places


def _decoded(content: bytes | None) -> tuple[str, str | None]:
    if content is None:
        return "", "the text is null"
    if len(content) > LONGEST_TEXT:
        return "", f"the text has {len(content):,} bytes, and {LONGEST_TEXT:,} are allowed"
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return "", f"the text is not UTF-8: {error.reason} at byte {error.start:,}"
    if not text or text.isspace():
        return "", "the text is blank: there is nothing in it to read"
    problem = utf8_problem(text)
    return text, None if problem is None else f"the text {problem}"


class Encode:
    """A worker of the job, as Ray Data makes and calls it."""

    def __init__(self, settings: CorpusSettings, about: AboutVectors, tally: Tally, files: Mapping[int, str]) -> None:
        self._encoder = BlockEncoder(settings, about)
        self._tally = tally
        self._files = files

    def __call__(self, block: pa.Table) -> pa.Table:
        """As `BlockEncoder.encode`; raises TooManyErrors."""
        first = block.column(KEY)[0].as_py() if block.num_rows else -1
        try:
            encoded, counts = self._encoder.encode(block, _Telling(self._tally, first))
            self._tally.add(counts, first, self._example(encoded))
        except ClientError as error:
            self._tally.fail(error)
            raise
        return encoded

    def _example(self, encoded: pa.Table) -> str:
        for key, problem in zip(encoded.column(KEY).to_pylist(), encoded.column(PROBLEM).to_pylist(), strict=True):
            if problem is not None:
                number, row = origin(key)
                return f"of row {row} of {self._files[number]}, {problem}"
        return ""


class _Telling:
    """Tells the tally how far a block is: at once that it has been begun, and then from time to time."""

    def __init__(self, tally: Tally, block: int) -> None:
        self._tally = tally
        self._block = block
        self._next = 0.0
        self(0)

    def __call__(self, texts: int) -> None:
        if time.monotonic() >= self._next:
            self._tally.under_way(self._block, texts)
            self._next = time.monotonic() + _TOLD_EVERY


class _Vectors:
    """Takes the replies of one block, which may leave some of its texts without a vector."""

    def __init__(
        self,
        rows: int,
        places: Sequence[int],
        problems: list[str | None],
        convert: Converter,
        dtype: npt.DTypeLike,
        tell: Callable[[int], object] | None,
    ) -> None:
        self.tokens = np.zeros(rows, np.int64)
        self.servers = Counter[str]()
        self._rows = rows
        self._places = np.asarray(places, np.int64)
        self._problems = problems
        self._convert = convert
        self._dtype = dtype
        self._tell = tell
        self._array: npt.NDArray[Any] | None = None

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Keep the rows of a reply; row i belongs to the text at `positions[i]`."""
        found = finite_rows(reply, "EMBEDDING", positions)
        places = self._places[list(positions)]
        self.tokens[places] = reply["TOKEN_COUNT"][:, 0]
        for place, row in self._converted(places, found):
            if self._array is None:
                self._array = np.zeros((self._rows, row.shape[1]), self._dtype)
            self._array[place] = row

    def _converted(self, places: npt.NDArray[np.int64], rows: npt.NDArray[Any]) -> list[tuple[Any, npt.NDArray[Any]]]:
        try:
            return [(places, self._convert(rows))]
        except InvalidArgument as error:
            if error.text_index is None:
                raise
        kept = []
        for place, row in zip(places, rows, strict=True):
            try:
                kept.append((place, self._convert(row[np.newaxis])))
            except InvalidArgument as error:  # of this one vector, such as a number that float16 does not reach
                self._problems[int(place)] = f"the text{error.reason}"
        return kept

    def answered(self, server: str, texts: int) -> None:
        """A server has answered so many."""
        self.servers[server] += texts
        if self._tell is not None:
            self._tell(self.servers.total())

    def leave_out(self, position: int, reason: str) -> None:
        """The server refuses a text."""
        self._problems[int(self._places[position])] = f"the text{reason}"

    def column(self, width: int) -> pa.Array:
        """FixedSizeList[D], null where there is no vector."""
        array = np.zeros((self._rows, width), self._dtype) if self._array is None else self._array
        missing = np.array([problem is not None for problem in self._problems], bool)
        return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1], mask=pa.array(missing))

    def result(self) -> None:
        """It is kept here."""

    only = result
