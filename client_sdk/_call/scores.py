"""What classifiers and cross-encoders answer, and how it is put together."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from client_sdk._call.collect import Rows, finite_rows
from client_sdk._call.kinds import AnswerKind
from client_sdk._call.texts import AnyPairs, AnyTexts, Text, TextSource, open_texts
from client_sdk._checks import positive_int, too_long, utf8_problem
from client_sdk._errors import InvalidArgument, InvalidType, VersionChanged
from client_sdk._transport.base import Arrays

Scores = npt.NDArray[np.float32]


class Label(NamedTuple):
    """A label that a classifier knows, and how well it fits a text."""

    name: str
    score: float


class Ranked(NamedTuple):
    """A document, its place among those that were given, and how well it answers the query."""

    index: int  # type: ignore[assignment]  # not the method of a tuple
    score: float
    document: str


class ScoreRows(Rows):
    """Scores of a text or pair: [N] float32 where there is one label, else [N, L]."""

    def __init__(self, count: int | None) -> None:
        super().__init__("SCORES", np.float32, count)

    def result(self) -> Scores:
        """In the caller's order."""
        scores: Scores = super().result()
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def only(self) -> Any:
        """Of a single pair: a float where there is one label, else [L]."""
        found = self.result()[0]
        return float(found) if found.ndim == 0 else found


class LabelRows:
    """The labels that fit each text best; no more scores are kept than are asked for."""

    def __init__(self, names: Sequence[str], top_k: int | None, count: int | None) -> None:
        self._names = names
        self._top_k = top_k
        self._places = Rows("PLACES", np.int32, count)
        self._scores = Rows("SCORES", np.float32, count)

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Keep the best of a reply."""
        places, scores = _best(finite_rows(reply, "SCORES", positions), self._names, self._top_k)
        self._places.take(positions, {"PLACES": places})
        self._scores.take(positions, {"SCORES": scores})

    def result(self) -> list[list[Label]]:
        """Those of each text, best first."""
        return _labels(self._places.result(), self._scores.result(), self._names)

    def only(self) -> list[Label]:
        """Those of a single text."""
        return self.result()[0]


SCORES: AnswerKind[Scores] = AnswerKind("", ("SCORES",), ScoreRows)
"""How well each pair fits together."""


def labels(names: Sequence[str], identity: str | None, top_k: int | None) -> AnswerKind[list[list[Label]]]:
    """The labels that fit each text best, by the model that has this identity, whose labels are known."""
    return AnswerKind("", ("SCORES",), partial(LabelRows, names, top_k), identity)


class Best:
    """The documents that answer a query best; of any number, no more are kept than are asked for."""

    def __init__(self, top_k: int | None) -> None:
        """Raises InvalidArgument if `top_k` is below 1; None: all."""
        self._top_k = checked_top_k(top_k)
        self._best: list[tuple[float, int, str]] = []  # with `top_k`, a heap; an earlier document wins a tie

    def take(self, indices: Iterable[int], documents: Iterable[str], scores: Scores) -> None:
        """Keep the best of some documents with their scores, [N, 1]."""
        if scores.shape[1] != 1:
            raise InvalidArgument(
                f"the model gives {scores.shape[1]} scores a pair, one a label, and rerank needs one: use score() or "
                "classify()"
            )
        for index, document, score in zip(indices, documents, scores[:, 0].tolist(), strict=True):
            entry = (score, -index, document)
            if self._top_k is None or len(self._best) < self._top_k:
                heapq.heappush(self._best, entry)
            else:
                heapq.heappushpop(self._best, entry)

    def result(self) -> list[Ranked]:
        """Best first."""
        return [Ranked(-place, score, document) for score, place, document in sorted(self._best, reverse=True)]


class Ranking:
    """A query's documents, ranked; of any number, no more are kept than are asked for or on their way."""

    def __init__(self, query: str, documents: AnyTexts, top_k: int | None, *, asynchronous: bool = False) -> None:
        """Check what is given.

        Raises:
            InvalidArgument: The query is blank, there are no documents, or `top_k` is below 1.
            InvalidType: The query is no str, or the documents are no collection of them.
        """
        self._query = checked_query(query)
        if isinstance(documents, str):
            raise InvalidType("documents is a str; give a collection of them, as in [document]")
        self._best = Best(top_k)
        self._waiting: dict[int, str] = {}  # the documents that have been read and not scored, by index
        source = open_texts(documents, name="documents", asynchronous=asynchronous)
        texts = source.texts
        pairs = self._pairs_async(texts) if isinstance(texts, AsyncIterator) else self._pairs(texts)
        self.source = replace(source, texts=pairs)
        """Each document with the query before it."""
        self.kind: AnswerKind[list[Ranked]] = AnswerKind("", ("SCORES",), lambda _: self)

    def _pairs(self, documents: Iterator[Text]) -> Iterator[Text]:
        for index, document in enumerate(documents):
            yield self._pair(index, document)

    async def _pairs_async(self, documents: AsyncIterator[Text]) -> AsyncIterator[Text]:
        index = 0
        async for document in documents:
            yield self._pair(index, document)
            index += 1

    def _pair(self, index: int, document: Text) -> Text:
        if not isinstance(document, str):
            raise InvalidType.of_text(index, " is a pair; a document is a str")
        self._waiting[index] = document
        return self._query, document

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Keep the best of a reply."""
        scores = finite_rows(reply, "SCORES", positions)
        self._best.take(positions, map(self._waiting.pop, positions), scores)

    def result(self) -> list[Ranked]:
        """Best first."""
        return self._best.result()

    def only(self) -> Any:
        """Never asked for: a query has a collection of documents."""
        return self.result()


def checked_query(query: Any) -> str:
    """What documents are to answer."""
    if not isinstance(query, str):
        raise InvalidType(f"query must be str, not {type(query).__name__}")
    if not query or query.isspace():
        raise InvalidArgument(f"query is {'blank' if query else 'empty'}: nothing answers it")
    if problem := utf8_problem(query):
        raise InvalidArgument(f"query {problem}")
    if problem := too_long(query):
        raise InvalidArgument(f"query: {problem}")
    return query


def checked_top_k(top_k: Any) -> int | None:
    """How many are wanted; None for all."""
    return None if top_k is None else positive_int("top_k", top_k)


def open_pairs(pairs: AnyPairs, *, asynchronous: bool = False) -> TextSource:
    """As `open_texts`, of pairs alone; a tuple of two str is a single one."""
    if isinstance(pairs, tuple) and len(pairs) == 2 and isinstance(pairs[0], str) and isinstance(pairs[1], str):
        return replace(open_texts([(pairs[0], pairs[1])]), single=True)
    if isinstance(pairs, str):
        raise InvalidType("pairs is a str; give pairs of texts, as in [(query, document)]")
    source = open_texts(pairs, name="pairs", asynchronous=asynchronous)
    texts = source.texts
    return replace(source, texts=_pairs_async(texts) if isinstance(texts, AsyncIterator) else _pairs(texts))


def _pairs(texts: Iterator[Text]) -> Iterator[Text]:
    for index, text in enumerate(texts):
        _check_pair(index, text)
        yield text


async def _pairs_async(texts: AsyncIterator[Text]) -> AsyncIterator[Text]:
    index = 0
    async for text in texts:
        _check_pair(index, text)
        yield text
        index += 1


def _check_pair(index: int, text: Text) -> None:
    if isinstance(text, str):
        raise InvalidType.of_text(index, " is a str; a pair is a tuple of two, as in (query, document)")


def labelled(scores: Scores, names: Sequence[str], top_k: int | None) -> list[list[Label]]:
    """The labels of each row of scores [N, L], best first.

    Raises:
        VersionChanged: There are other labels than scores.
    """
    return _labels(*_best(scores, names, top_k), names)


def _best(scores: Scores, names: Sequence[str], top_k: int | None) -> tuple[npt.NDArray[np.int32], Scores]:
    """Which labels fit each text best, and how well."""
    if scores.shape[1] != len(names):
        raise VersionChanged(
            f"the model has {len(names)} labels and gave {scores.shape[1]} scores: it was replaced meanwhile, so call "
            "again"
        )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k].astype(np.int32)
    return order, np.take_along_axis(scores, order, axis=1)


def _labels(places: npt.NDArray[np.int32], scores: Scores, names: Sequence[str]) -> list[list[Label]]:
    return [
        [Label(names[place], score) for place, score in zip(row, values, strict=True)]
        for row, values in zip(places.tolist(), scores.tolist(), strict=True)
    ]
