"""Sparse vectors, as replies become them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from client_sdk import Client, ClientError, InvalidArgument, InvalidType, ServerError, SparseVectors
from client_sdk._call.sparse import sparse_vectors

REPLIES = {
    (2, 0): ([[7, 3, -1], [1, -1, -1]], [[2, 1, 0], [0.5, 0, 0]]),
    (1,): ([[4, 2, 9, 0]], [[4, 3, 2, 1]]),
    (3,): ([[-1]], [[0]]),
}


def collected() -> SparseVectors:
    collector = sparse_vectors(10, None).collector(4)
    for positions, (indices, weights) in REPLIES.items():
        reply = {"INDICES": np.array(indices, np.int32), "WEIGHTS": np.array(weights, np.float32)}
        collector.take(positions, reply)
    return collector.result()


def test_replies_of_unlike_widths_are_put_together_in_order():
    found = collected()
    assert found.indices.tolist() == [1, 4, 2, 9, 0, 7, 3]
    assert found.weights.tolist() == [0.5, 4, 3, 2, 1, 2, 1]
    assert found.indices.dtype == np.int32 and found.weights.dtype == np.float32
    assert found.lengths.tolist() == [1, 4, 2, 0] and len(found) == 4 and found.dimension == 10


def test_one_text_has_its_words_alone():
    found = collected()
    assert [vector.indices.tolist() for vector in found] == [[1], [4, 2, 9, 0], [7, 3], []]
    assert found[-2].weights.tolist() == [2, 1]
    assert [vector.indices.tolist() for vector in found[1:3]] == [[4, 2, 9, 0], [7, 3]]
    assert [vector.weights.tolist() for vector in found[::-2]] == [[], [4, 3, 2, 1]]
    assert len(found[4:]) == 0 and found[4:].indices.shape == (0,)
    with pytest.raises(IndexError):
        found[4]
    single = sparse_vectors(10, None).collector(1)
    single.take([0], {"INDICES": np.array([[3, -1]], np.int32), "WEIGHTS": np.array([[1, 0]], np.float32)})
    assert single.only().indices.tolist() == [3]


def test_scipy_gets_the_same_numbers():
    array = collected().to_scipy()
    expected = np.zeros((4, 10), np.float32)
    for row, vector in enumerate(collected()):
        expected[row, vector.indices] = vector.weights
    assert array.shape == (4, 10) and array.dtype == np.float32 and array.has_sorted_indices
    np.testing.assert_array_equal(array.toarray(), expected)


def test_scipy_is_asked_for_by_name_where_it_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(ClientError, match="to_scipy.. needs scipy .*pip install scipy"):
        collected().to_scipy()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"WEIGHTS": np.zeros((1, 2), np.float32)}, "expected INDICES of shape .1, 2. in the reply, and found nothing"),
        ({"WEIGHTS": np.zeros((1, 2), np.float32), "INDICES": np.zeros((1, 3), np.int32)}, r"found shape \(1, 3\)"),
        ({"INDICES": np.zeros((1, 2), np.int32)}, "expected WEIGHTS"),
        ({"WEIGHTS": np.full((1, 1), np.nan, np.float32), "INDICES": np.zeros((1, 1), np.int32)}, "not finite"),
    ],
)
def test_a_reply_that_is_none_is_refused(reply, message):
    with pytest.raises(ServerError, match=message):
        sparse_vectors(10, None).collector(1).take([0], reply)


def some_vectors(seed, count, dimension=40):
    """Sparse vectors, the second without a word, and the same as an array."""
    made = np.random.default_rng(seed)
    dense = np.where(made.random((count, dimension)) < 0.3, made.standard_normal((count, dimension)), 0)
    dense[1] = 0
    words = [np.flatnonzero(row) for row in dense]
    weights = np.concatenate([row[found] for row, found in zip(dense, words, strict=True)])
    lengths = np.array([len(found) for found in words])
    vectors = SparseVectors(np.concatenate(words).astype(np.int32), weights.astype(np.float32), lengths, dimension)
    return vectors, dense.astype(np.float32)


@pytest.mark.parametrize("metric", [None, "dot", "cosine", "euclidean", "manhattan"])
def test_sparse_vectors_are_as_near_as_the_same_dense_ones(metric):
    (a, dense_a), (b, dense_b) = some_vectors(0, 5), some_vectors(1, 7)
    with Client("grpc://127.0.0.1:1") as client:  # which has nothing to ask
        expected = client.similarity(dense_a, dense_b, metric=metric or "dot")
        found = client.similarity(a, b, metric=metric)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert found.dtype == np.float32
        np.testing.assert_allclose(client.similarity(a[2], b, metric=metric), expected[2:3], rtol=0, atol=1e-5)
        found = client.similarity(list(a), (b[1], b[0]), metric=metric)
        np.testing.assert_allclose(found, expected[:, 1::-1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(a.similarity(b[3], metric or "dot"), expected[:, 3:4], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("b", "metric", "error", "message"),
    [
        (np.ones((2, 40), np.float32), None, InvalidType, "b must be of encode_sparse, as the other is, not ndarray"),
        ([some_vectors(1, 2)[0][0], "b"], None, InvalidType, "b: vector 1 must be of encode_sparse, not str"),
        (some_vectors(1, 2, 50)[0], None, InvalidArgument, "a is over 40 words and b over 50: are both of a model"),
        (
            some_vectors(1, 2)[0],
            "maxsim",
            InvalidArgument,
            "metric 'maxsim' is not known for sparse vectors; allowed: co",
        ),
        (some_vectors(1, 2)[0], 5, InvalidType, "metric must be str or None, not int"),
    ],
)
def test_what_cannot_be_compared_with_sparse_vectors_is_refused(b, metric, error, message):
    with Client("grpc://127.0.0.1:1") as client, pytest.raises(error, match=message):
        client.similarity(some_vectors(0, 2)[0], b, metric=metric)
