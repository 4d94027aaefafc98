"""What scores become: ranked documents, labels, and errors that say what to write instead."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from client_sdk import InvalidArgument, InvalidType, Label, Ranked, ServerError, VersionChanged
from client_sdk._call.scores import SCORES, Ranking, ScoreRows, labelled, labels, open_pairs
from client_sdk._call.texts import open_texts

DOCUMENTS = [f"document {index}" for index in range(50)]
VALUES = np.random.default_rng(0).permutation(25).repeat(2).astype(np.float32) / 25  # each twice


def reply(values: Any) -> dict[str, np.ndarray]:
    return {"SCORES": np.asarray(values, np.float32).reshape(len(values), -1)}


def ranked(documents: Any, top_k: int | None) -> list[Ranked]:
    """As a call does: documents are read, sent in an order of the client's, and answered in any."""
    ranking = Ranking("query", documents, top_k)
    assert [query for query, _ in ranking.source.texts] == ["query"] * 50
    for start in (40, 0, 20):
        positions = list(range(start, min(start + 20, 50)))[::-1]
        ranking.take(positions, reply(VALUES[positions]))
    return ranking.result()


@pytest.mark.parametrize("top_k", [None, 1, 7, 49, 50, 51, 1000])
@pytest.mark.parametrize("kind", [list, tuple, iter, np.array])
def test_the_best_come_first_and_the_earlier_of_equal_ones(kind: Any, top_k: int | None):
    order = sorted(range(50), key=lambda index: (-VALUES[index], index))[:top_k]
    found = ranked(kind(DOCUMENTS), top_k)
    assert found == [Ranked(index, pytest.approx(float(VALUES[index])), DOCUMENTS[index]) for index in order]
    assert all(type(one.score) is float and type(one.index) is int for one in found)


class Document(str):
    __slots__ = ("__weakref__",)


def test_of_a_stream_only_the_best_are_kept():
    alive: weakref.WeakSet[Document] = weakref.WeakSet()

    def documents() -> Iterator[str]:
        for index in range(10_000):
            alive.add(document := Document(f"document {index}"))
            yield document

    ranking = Ranking("query", documents(), 5)
    for position, _ in enumerate(ranking.source.texts):
        ranking.take([position], reply([position % 100]))
        assert len(alive) <= 8
    assert [one.index for one in ranking.result()] == [99, 199, 299, 399, 499]


def test_an_asynchronous_stream_is_ranked():
    async def documents() -> AsyncIterator[str]:
        for document in DOCUMENTS:
            yield document

    async def read() -> list[Any]:
        return [pair async for pair in ranking.source.texts]  # type: ignore[union-attr]

    ranking = Ranking("query", documents(), 2, asynchronous=True)
    assert asyncio.run(read()) == [("query", document) for document in DOCUMENTS]
    ranking.take(range(50), reply(VALUES))
    assert len(ranking.result()) == 2


@pytest.mark.parametrize(
    ("query", "documents", "top_k", "error", "message"),
    [
        (7, ["a"], None, InvalidType, "query must be str, not int"),
        ("", ["a"], None, InvalidArgument, "query is empty"),
        (" ", ["a"], None, InvalidArgument, "query is blank"),
        ("\ud800", ["a"], None, InvalidArgument, "query has the lone surrogate"),
        ("q", "a", None, InvalidType, "documents is a str; give a collection"),
        ("q", [], None, InvalidArgument, "empty"),
        ("q", {"a", "b"}, None, InvalidType, "a set has no order"),
        ("q", ["a", 3], None, InvalidType, "text 1 is int"),
        ("q", ["a", " "], None, InvalidArgument, "text 1 is blank: there is nothing in it to read"),
        ("q", [], None, InvalidArgument, "^documents is empty: give at least one"),
        ("q", iter([]), None, InvalidArgument, "^documents is empty: give at least one"),
        ("q", 3, None, InvalidType, "^documents must be an iterable of str, not int"),
        ("q", ["a", ("a", "b")], None, InvalidType, "text 1 is a pair; a document is a str"),
        ("q", ["a"], 0, InvalidArgument, "top_k must be at least 1"),
        ("q", ["a"], "3", InvalidType, "top_k must be an int"),
    ],
)
def test_what_cannot_be_ranked_is_named(query, documents, top_k, error, message):
    with pytest.raises(error, match=message):
        list(Ranking(query, documents, top_k).source.texts)


def test_scores_of_several_labels_rank_nothing():
    ranking = Ranking("q", ["a"], None)
    list(ranking.source.texts)
    with pytest.raises(InvalidArgument, match=r"gives 3 scores a pair, one a label, .* use score\(\) or classify\(\)"):
        ranking.take([0], reply([[1, 2, 3]]))


def test_scores_that_are_not_finite_are_refused():
    ranking = Ranking("q", ["a", "b"], None)
    list(ranking.source.texts)
    with pytest.raises(ServerError, match="text 1: the server answered"):
        ranking.take([0, 1], reply([1, np.nan]))


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ("a", InvalidType, "pairs is a str; give pairs"),
        (["a", "b"], InvalidType, "text 0 is a str; a pair is a tuple of two"),
        ([("a", "b"), "c"], InvalidType, "text 1 is a str"),
        ([["a", "b"]], InvalidType, r"given as tuple\(pair\)"),
        ([("a", " ")], InvalidArgument, "text 0: the second of the pair is blank"),
        ([], InvalidArgument, "^pairs is empty: give at least one"),
        (3, InvalidType, "^pairs must be an iterable of tuples of two str, or one such tuple, not int"),
        ([], InvalidArgument, "empty"),
    ],
)
def test_what_is_no_pair_is_named(pairs, error, message):
    with pytest.raises(error, match=message):
        list(open_pairs(pairs).texts)


def test_a_tuple_of_two_is_one_pair_and_of_pairs_a_collection():
    single = open_pairs(("a", "b"))
    assert single.single and list(single.texts) == [("a", "b")]
    several = open_pairs((("a", "b"), ("c", "d")))
    assert not several.single and list(several.texts) == [("a", "b"), ("c", "d")]


def test_scores_of_one_label_are_numbers_and_of_several_rows():
    one, several = ScoreRows(3), ScoreRows(1)
    one.take([2, 0, 1], reply([3, 1, 2]))
    several.take([0], reply([[1, 2]]))
    assert one.result().tolist() == [1, 2, 3] and one.only() == 1.0 and type(one.only()) is float
    assert several.result().tolist() == [[1, 2]] and several.only().tolist() == [1, 2]
    assert SCORES.outputs == labels((), None, None).outputs == ("SCORES",)


def test_labels_come_best_first_and_the_earlier_of_equal_ones():
    scores = np.array([[0.25, 0.5, 0.25], [3, 2, 1]], np.float32)
    assert labelled(scores, "abc", None) == [
        [Label("b", 0.5), Label("a", 0.25), Label("c", 0.25)],
        [Label("a", 3), Label("b", 2), Label("c", 1)],
    ]
    assert labelled(scores, "abc", 1) == [[Label("b", 0.5)], [Label("a", 3)]]
    for top_k in (None, 1, 2, 9):
        rows = labels("abc", None, top_k).collector(2)
        rows.take([1, 0], reply(scores[::-1]))
        assert rows.result() == labelled(scores, "abc", top_k) and rows.only() == labelled(scores, "abc", top_k)[0]


def test_no_more_scores_are_kept_than_labels_are_asked_for():
    rows = labels([str(i) for i in range(1000)], None, 2).collector(None)
    for start in range(0, 640, 64):
        rows.take(range(start, start + 64), reply(np.eye(64, 1000)))
    assert rows._scores._array.shape[1] == rows._places._array.shape[1] == 2
    assert [row[0] for row in rows.result()] == [Label(str(i % 64), 1.0) for i in range(640)]


def test_labels_of_another_model_are_not_taken_for_this_ones():
    with pytest.raises(VersionChanged, match="2 labels and gave 3 scores"):
        labelled(np.zeros((1, 3), np.float32), "ab", None)


def test_pairs_may_be_a_stream():
    source = open_pairs(pair for pair in [("a", "b")])
    assert source.count is None and list(source.texts) == [("a", "b")]
    assert open_texts([("a", "b")]).count == 1
