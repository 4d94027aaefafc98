import numpy as np
import pytest

from client_sdk import ServerError
from client_sdk._call.collect import Both, Counts, Rows, TokenItems, TokenLists


def reply(rows):
    return {"EMBEDDING": np.asarray(rows, np.float32)}


@pytest.mark.parametrize("count", [5, None, 9])  # known, unknown, and a length that promised too much
def test_rows_come_out_in_the_callers_order(count):
    rows = Rows("EMBEDDING", np.float32, count)
    rows.take([3, 1], reply([[3, 3], [1, 1]]))
    rows.take([4], reply([[4, 4]]))
    rows.take([0, 2], reply([[0, 0], [2, 2]]))
    assert rows.result().tolist() == [[i, i] for i in range(5)]
    assert rows.result().dtype == np.float32 and rows.result().flags.writeable


def test_a_known_number_of_rows_is_allocated_once():
    rows = Rows("EMBEDDING", np.float32, 1000)
    rows.take([0], reply([[0.0]]))
    array = rows._array
    rows.take([999], reply([[9.0]]))
    assert rows.result() is array


@pytest.mark.parametrize("count", [3, None])
def test_rows_are_kept_as_what_they_are_converted_to(count):
    rows = Rows("EMBEDDING", np.int8, count, lambda vectors: vectors.astype(np.int8)[:, :1])
    rows.take([2, 0], reply([[3.7, 0], [1.2, 0]]))
    rows.take([1], reply([[-2.5, 0]]))
    assert rows.result().tolist() == [[1], [-2], [3]] and rows.result().dtype == np.int8
    with pytest.raises(ServerError, match="^text 7: .* not finite"):
        Rows("EMBEDDING", np.int8, 9, lambda vectors: vectors.astype(np.int8)).take([7], reply([[np.nan]]))


def test_rows_may_be_those_of_texts_from_a_later_one_on():
    rows = Rows("EMBEDDING", np.float32, 2, start=7)
    rows.take([8], reply([[8]]))
    rows.take([7], reply([[7]]))
    assert rows.result().tolist() == [[7], [8]]
    with pytest.raises(ServerError, match="^text 8: .* not finite"):
        rows.take([8], reply([[np.nan]]))


def test_counts_are_integers():
    counts = Counts(2)
    counts.take([1, 0], {"TOKEN_COUNT": np.array([[7], [5]], np.int32)})
    assert counts.result().tolist() == [5, 7] and counts.result().dtype == np.int64
    assert counts.only() == 5 and type(counts.only()) is int


def test_tokens_are_cut_out_of_their_padding():
    vectors = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    items = TokenItems()
    items.take(
        [1, 0],
        {
            "TOKEN_EMBEDDING": vectors,
            "TOKENS": np.array([[b"a", b"b", b"c"], ["ü".encode(), b"", b""]], object),
            "ATTENTION_MASK": np.array([[1, 1, 1], [1, 0, 0]], np.int32),
        },
    )
    first, second = items.result()
    assert first.tokens == ["ü"] and first.vectors.tolist() == [[6, 7]]
    assert second.tokens == ["a", "b", "c"] and second.vectors.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert not np.shares_memory(first.vectors, vectors)


def test_vectors_that_are_not_pooled_can_be_blanked():
    items = TokenItems(blank_unpooled=True)
    items.take(
        [0],
        {
            "TOKEN_EMBEDDING": np.ones((1, 4, 2), np.float32),
            "TOKENS": np.array([[b"[CLS]", b"a", b"[SEP]", b""]], object),
            "ATTENTION_MASK": np.array([[1, 1, 1, 0]], np.int32),
            "POOLING_MASK": np.array([[0, 1, 0, 0]], np.int32),
        },
    )
    vectors = items.only().vectors
    assert vectors.tolist() == [[0, 0], [1, 1], [0, 0]] and vectors.dtype == np.float32


def test_two_collectors_share_the_replies():
    both = Both(TokenLists(), Counts(2))
    both.take(
        [1, 0],
        {
            "TOKENS": np.array([[b"a", b"b"], [b"c", b""]], object),
            "attention_mask": np.array([[1, 1], [1, 0]], np.int32),
            "TOKEN_COUNT": np.array([[2], [1]], np.int32),
        },
    )
    tokens, counts = both.result()
    assert tokens == [["c"], ["a", "b"]] and counts.tolist() == [1, 2] and both.only() == (["c"], 1)


@pytest.mark.parametrize("wrong", [{}, reply([[1.0]]), {"EMBEDDING": np.zeros(2, np.float32)}])
def test_a_reply_of_the_wrong_shape_is_a_server_error(wrong):
    with pytest.raises(ServerError, match="expected EMBEDDING with 2 rows"):
        Rows("EMBEDDING", np.float32, 2).take([0, 1], wrong)


def test_a_model_that_changes_within_a_call_is_a_server_error():
    rows = Rows("EMBEDDING", np.float32, 2)
    rows.take([0], reply([[1.0, 2.0]]))
    with pytest.raises(ServerError, match="was the model replaced"):
        rows.take([1], reply([[1.0]]))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_an_error_that_names_the_text(wrong):
    with pytest.raises(ServerError, match="^text 7: .* not finite"):
        Rows("EMBEDDING", np.float32, 9).take([3, 7], reply([[1, 1], [1, wrong]]))


@pytest.mark.parametrize("place", [0, 1])
def test_a_tokens_vector_that_is_not_finite_is_an_error_but_at_padding(place):
    vectors = np.ones((2, 2, 3), np.float32)
    vectors[1, place, 2] = np.nan
    answer = {
        "TOKEN_EMBEDDING": vectors,
        "TOKENS": np.array([[b"a", b"b"], [b"c", b""]], object),
        "ATTENTION_MASK": np.array([[1, 1], [1, 0]], np.int32),
    }
    items = TokenItems()
    if place == 0:
        with pytest.raises(ServerError, match="^text 4: .* not finite"):
            items.take([1, 4], answer)
    else:
        items.take([1, 0], answer)
        assert items.result()[0].vectors.tolist() == [[1, 1, 1]]
