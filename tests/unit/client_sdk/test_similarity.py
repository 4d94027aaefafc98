import tracemalloc

import numpy as np
import pytest

import client_sdk
from client_sdk import Client, InvalidArgument, InvalidType
from client_sdk._similarity import METRICS

RNG = np.random.default_rng(0)


def by_definition(a, b, metric):
    """[N, M], in float64 and one by one."""
    measures = {
        "cosine": lambda x, y: x @ y / max(np.linalg.norm(x), 1e-12) / max(np.linalg.norm(y), 1e-12),
        "dot": lambda x, y: x @ y,
        "euclidean": lambda x, y: -np.sqrt(((x - y) ** 2).sum()),
        "manhattan": lambda x, y: -np.abs(x - y).sum(),
    }
    return np.array([[measures[metric](x, y) for y in b.astype(float)] for x in a.astype(float)])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 5, 384), (520, 515, 7), (2, 700, 1024)])  # over the edges of blocks
def test_each_is_what_its_name_says(metric, sizes):
    n, m, d = sizes
    a, b = (RNG.standard_normal((count, d)).astype(np.float32) for count in (n, m))
    a[0] = 0  # like no other
    b[-1] = a[-1]
    found = client_sdk.similarity(a, b, metric=metric)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_definition(a, b, metric), rtol=1e-5, atol=1e-5 * d**0.5)
    if metric == "manhattan":
        assert found[-1, -1] == 0


@pytest.mark.parametrize("metric", METRICS)
def test_they_are_those_of_sentence_transformers(metric):
    """The functions of its release 6.2.0 gave these."""
    a, b = np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[1.0, 2.0], [3.0, 4.0], [-6.0, 8.0]])
    recorded = {
        "cosine": [[0.98386991, 1, 0.28], [0, 0, 0]],
        "dot": [[11, 25, 14], [0, 0, 0]],
        "euclidean": [[-2.82842708, 0, -9.84885788], [-2.23606801, -5, -10]],
        "manhattan": [[-4, 0, -13], [-3, -7, -14]],
    }
    np.testing.assert_allclose(client_sdk.similarity(a, b, metric=metric), recorded[metric], rtol=1e-6)


def test_vectors_may_be_one_alone_lists_and_of_other_precisions():
    rows = np.eye(3, dtype=np.float32)
    column = np.empty(1, object)
    column[0] = rows[0]
    for a in ([1, 0, 0], rows[0], rows[0].astype(np.float16), rows[:1].astype(float), [rows[0]], column):
        assert client_sdk.similarity(a, rows, metric="dot").tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_memory_beside_the_result_is_bounded(metric):
    a, b = (RNG.standard_normal((count, 256)).astype(np.float32) for count in (200, 4000))
    tracemalloc.start()
    result = client_sdk.similarity(a, b, metric=metric)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most - result.nbytes < 10 << 20 < 200 * 4000 * 256


@pytest.mark.parametrize(
    ("a", "b", "metric", "error", "message"),
    [
        ([1.0], [1.0], "cos", InvalidArgument, "metric 'cos' is not known; allowed: cosine, dot, euclidean, manhattan"),
        ([1.0], [1.0], 1, InvalidType, "metric must be str or None, not int"),
        ([1.0, 2.0], [1.0], "dot", InvalidArgument, "a has vectors of 2 numbers and b of 1"),
        ([[1.0, 2.0], [1.0]], [1.0], "dot", InvalidArgument, r"a must be one vector \[D\] or several \[N, D\], all of"),
        ([1.0], np.zeros((2, 2, 2)), "dot", InvalidArgument, r"b must be .*, not of shape \(2, 2, 2\)"),
        ([], [1.0], "dot", InvalidArgument, r"a must be .*, not of shape \(0,\)"),
        ([1.0], np.zeros((2, 3), np.int8), "dot", InvalidType, "b must be vectors of floating-point numbers, not int8"),
        ([1.0], [np.zeros(3, np.int8)], "dot", InvalidType, "b must be vectors of floating-point numbers, not int8"),
        ([1.0], [np.zeros(3, np.uint8)], "dot", InvalidType, "b must be vectors of floating-point numbers, not uint8"),
        (np.array([None]), [1.0], "dot", InvalidType, "a must be vectors of floating-point numbers, not object"),
        (["a"], [1.0], "dot", InvalidType, "a must be vectors of floating-point numbers, not <U1"),
        ([np.nan], [1.0], "cosine", InvalidArgument, "a has numbers that are not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, metric, error, message):
    with Client("grpc://127.0.0.1:1") as client, pytest.raises(error, match=message):
        client.similarity(a, b, metric=metric)
