"""Late interaction's scores, compared with sums written out in float64; with sentence-transformers', in tests/live."""

import numpy as np
import pytest

import client_sdk
from client_sdk import InvalidArgument, InvalidType, _maxsim, maxsim

GENERATOR = np.random.default_rng(0)


def texts(*lengths, width=16):
    return [GENERATOR.standard_normal((length, width)).astype(np.float32) for length in lengths]


QUERIES = texts(8, 1, 32, 5)
DOCUMENTS = texts(*GENERATOR.integers(1, 60, 50))


def plain(query, document):
    return (query.astype(np.float64) @ document.astype(np.float64).T).max(axis=1).sum()


HIDDEN = np.stack([np.ones(16), np.full(16, -np.inf)])
EXPECTED = np.array([[plain(query, document) for document in DOCUMENTS] for query in QUERIES])


@pytest.mark.parametrize("limits", [{}, {"_QUERY_TOKENS": 9, "_DOCUMENT_TOKENS": 100}, {"_PRODUCTS": 1}])
def test_a_score_is_the_sum_of_what_each_token_of_the_query_finds_nearest(limits, monkeypatch):
    for name, value in limits.items():
        monkeypatch.setattr(_maxsim, name, value)
    found = maxsim(QUERIES, DOCUMENTS)
    assert found.dtype == np.float32 and found.shape == (4, 50)
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-5)
    one = maxsim(QUERIES[2], DOCUMENTS)
    assert one.shape == (50,)
    np.testing.assert_allclose(one, EXPECTED[2], rtol=1e-5)


def test_a_mean_is_the_same_for_queries_of_any_length():
    lengths = np.array([[len(query)] for query in QUERIES])
    np.testing.assert_allclose(maxsim(QUERIES, DOCUMENTS, mean=True), EXPECTED / lengths, rtol=1e-5)


def test_texts_may_be_of_one_array_and_of_half_precision():
    several = np.stack(texts(7, 7, 7))
    expected = maxsim(QUERIES[0], list(several))
    np.testing.assert_array_equal(maxsim(QUERIES[0], several), expected)
    np.testing.assert_array_equal(maxsim(QUERIES[0], several[1]), expected[1:2])  # one document
    np.testing.assert_array_equal(maxsim([QUERIES[0]], several), expected[np.newaxis])
    halves = [text.astype(np.float16) for text in several]
    np.testing.assert_allclose(maxsim(QUERIES[0], halves), expected, rtol=1e-2)


def test_large_numbers_are_what_they_are():
    large = [np.full((3, 4), 3e38, np.float32)]  # whose sum is more than float32 holds
    assert maxsim(np.full((1, 4), 1e-38, np.float32), large) == pytest.approx(12)


class Tensor:
    """As another library's: an array only when it is asked to be one."""

    def __init__(self, array):
        self.array, self.ndim = array, array.ndim

    def __array__(self, dtype=None):
        return self.array.astype(dtype) if dtype else self.array

    def __iter__(self):
        return map(Tensor, self.array)


def test_tensors_of_other_libraries_are_taken():
    documents = [Tensor(document) for document in DOCUMENTS]
    np.testing.assert_array_equal(maxsim(Tensor(QUERIES[0]), documents), maxsim(QUERIES[0], DOCUMENTS))
    np.testing.assert_array_equal(maxsim([Tensor(QUERIES[0])], documents), maxsim(QUERIES[:1], DOCUMENTS))


def test_a_text_without_tokens_comes_last_or_finds_nothing():
    documents = [*DOCUMENTS[:2], *texts(0), *DOCUMENTS[2:4], *texts(0)]
    found = maxsim([QUERIES[0], *texts(0)], documents)
    np.testing.assert_allclose(found[0, [0, 1, 3, 4]], EXPECTED[0, :4], rtol=1e-5)
    assert (found[:, [2, 5]] == -1e9).all() and (found[1, [0, 1, 3, 4]] == 0).all()
    assert maxsim(QUERIES[0], texts(0, 0)).tolist() == [-1e9, -1e9]


@pytest.mark.parametrize(
    ("query", "documents", "error", "message"),
    [
        (QUERIES[0], [], InvalidArgument, "^documents is empty: give one at least"),
        ([], DOCUMENTS, InvalidArgument, "^query is empty"),
        ("a text", DOCUMENTS, InvalidType, "^query must be arrays .T, D. of encode_multi.., not str"),
        (QUERIES[0], 3, InvalidType, "^documents must be arrays .T, D. of encode_multi.., not int"),
        (QUERIES[0], ["a"], InvalidArgument, "^documents 0 must be an array .T, D., .*, not of shape"),
        (QUERIES[0][0], DOCUMENTS, InvalidArgument, "^query 0 must be an array .T, D., .*, not of shape"),
        (
            QUERIES[0],
            [np.ones((3, 16), np.int8)],
            InvalidType,
            "^documents 0 must be of floating-point numbers, not int8",
        ),
        (QUERIES[0], texts(3) + texts(3, width=8), InvalidArgument, "^documents 1 has vectors of 8 .* query 0 of 16"),
        (QUERIES[0] * np.nan, DOCUMENTS, InvalidArgument, "^query 0 has numbers that are not finite"),
        # Which no score shows: another token of the document is nearer, or there is none that is looked for.
        (np.ones((1, 16)), [HIDDEN], InvalidArgument, "^documents 0 has numbers that are not finite"),
        (texts(0), [DOCUMENTS[0], DOCUMENTS[1] * np.inf], InvalidArgument, "^documents 1 has numbers that are not fin"),
        (
            QUERIES[0],
            [DOCUMENTS[0].astype(np.float64) * 1e300],
            InvalidArgument,
            "^documents 0 has numbers that are not finite",
        ),
        (QUERIES[0] * 1e30, [DOCUMENTS[0] * 1e30], InvalidArgument, "so large that their products are not finite"),
    ],
)
def test_what_is_no_vectors_of_tokens_is_named(query, documents, error, message):
    with pytest.raises(error, match=message):
        maxsim(query, documents)


def test_similarity_compares_them_by_the_name_of_the_measure():
    np.testing.assert_array_equal(
        client_sdk.similarity(QUERIES, DOCUMENTS, metric="maxsim"), maxsim(QUERIES, DOCUMENTS)
    )
    one = client_sdk.similarity(QUERIES[2], DOCUMENTS, metric="meanmaxsim")
    np.testing.assert_array_equal(one, maxsim([QUERIES[2]], DOCUMENTS, mean=True))
