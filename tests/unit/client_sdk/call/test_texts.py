import numpy as np
import pandas
import polars
import pytest

from client_sdk import InvalidArgument, InvalidType
from client_sdk._call.texts import open_texts


def test_a_str_is_one_text():
    source = open_texts("hello")
    assert (list(source.texts), source.count, source.single) == (["hello"], 1, True)


@pytest.mark.parametrize("texts", [["a", "b"], ("a", "b"), np.array(["a", "b"]), np.array(["a", "b"], object)])
def test_a_collection_is_counted_and_its_tuple_is_no_pair(texts):
    source = open_texts(texts)
    assert (list(source.texts), source.count, source.single) == (["a", "b"], 2, False)


def test_a_stream_is_read_one_text_at_a_time():
    pulled = []

    def stream():
        for text in ("a", ("b", "c"), "d"):
            pulled.append(text)
            yield text

    source = open_texts(stream())
    assert source.count is None and pulled == []
    assert next(source.texts) == "a" and pulled == ["a"]
    assert list(source.texts) == [("b", "c"), "d"]


def test_a_lazy_sequence_is_not_read_ahead_and_its_length_is_used():
    source = open_texts({"a": 1, "b": 2}.keys())
    assert source.count == 2 and list(source.texts) == ["a", "b"]


@pytest.mark.parametrize("texts", [[], (), np.array([]), iter([]), (text for text in ())])
def test_no_texts_are_refused(texts):
    with pytest.raises(InvalidArgument, match="texts is empty"):
        list(open_texts(texts).texts)


@pytest.mark.parametrize("texts", [None, 5, b"bytes", bytearray(b"bytes")])
def test_what_is_no_collection_of_texts_is_refused(texts):
    with pytest.raises(InvalidType, match=f"a str or an iterable of str, not {type(texts).__name__}"):
        open_texts(texts)


@pytest.mark.parametrize("wrap", [list, iter])
@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (5, InvalidType, "text 2 is int; a text is a str, and a pair is a tuple of two str"),
        (None, InvalidType, "text 2 is NoneType"),
        (b"c", InvalidType, "text 2 is bytes"),
        (["c", "d"], InvalidType, "text 2 is list"),
        (("c", "d", "e"), InvalidType, "text 2 is a tuple of 3"),
        (("c", 5), InvalidType, "text 2: the second of the pair is int"),
        ("", InvalidArgument, "text 2 is empty"),
        (" \t\n\u3000", InvalidArgument, "text 2 is blank"),
        (("", "d"), InvalidArgument, "text 2: the first of the pair is empty"),
        (("c", " "), InvalidArgument, "text 2: the second of the pair is blank"),
        ("c \ud800", InvalidArgument, r"text 2 has the lone surrogate '\\ud800' at character 2"),
    ],
)
def test_a_wrong_text_is_refused_by_its_index(wrap, text, kind, message):
    with pytest.raises(kind, match=message):
        list(open_texts(wrap(["a", "b", text, "z"])).texts)


def test_a_collection_is_refused_whole():
    with pytest.raises(InvalidArgument, match="text 1"):
        open_texts(["a", ""])


def test_a_wrong_str_has_no_index():
    with pytest.raises(InvalidArgument, match="^the text is empty"):
        open_texts("")


@pytest.mark.parametrize("wrap", [list, iter])
def test_lists_of_tokens_come_out_as_json_arrays(wrap):
    source = open_texts(wrap([["un", "##ü"], ("a", "|||", "b")]), is_tokenized=True)
    assert list(source.texts) == ['["un", "##ü"]', '["a", "|||", "b"]'] and not source.single


@pytest.mark.parametrize("make", [np.array, lambda tokens: np.array(tokens, object), pandas.Series, polars.Series])
def test_arrays_of_tokens_and_of_ids_are_as_lists_of_them(make):
    for rows, expected in (
        ([["un", "##ü"], ["a"]], ['["un", "##ü"]', '["a"]']),
        ([[101, 7592, 102], [7]], ["[101, 7592, 102]", "[7]"]),
    ):
        assert list(open_texts([make(row) for row in rows], is_tokenized=True).texts) == expected
    with pytest.raises(InvalidType, match="text 1: token 0 is float"):
        open_texts([["a"], make([1.5, 2.5])], is_tokenized=True)
    with pytest.raises(InvalidType, match="text 0 is .*; a text is a str"):
        list(open_texts([make(["a"])]).texts)


def test_an_array_of_texts_that_have_as_many_tokens_each_is_one_of_their_rows():
    rows = np.array([[101, 5, 102], [101, 6, 102]], np.int32)
    source = open_texts(rows, is_tokenized=True)
    assert (list(source.texts), source.count) == (["[101, 5, 102]", "[101, 6, 102]"], 2)
    assert list(open_texts(rows.astype(str), is_tokenized=True).texts)[1] == '["101", "6", "102"]'
    with pytest.raises(InvalidType, match="text 0 is ndarray; with is_tokenized a text is a list of tokens"):
        open_texts([rows], is_tokenized=True)
    with pytest.raises(InvalidType, match="it has 3 dimensions"):
        open_texts(rows[np.newaxis], is_tokenized=True)


@pytest.mark.parametrize("wrap", [list, iter])
@pytest.mark.parametrize(
    ("tokens", "kind", "message"),
    [
        ("a", InvalidType, "text 1 is str; with is_tokenized a text is a list of tokens"),
        (["a", 5], InvalidType, "text 1: token 1 is int, not str"),
        ([], InvalidArgument, "text 1 has no tokens"),
        (["a", ""], InvalidArgument, "text 1: token 1 is empty"),
        ([" "], InvalidArgument, "text 1: token 0 is blank"),
        (["\ud800"], InvalidArgument, "text 1: token 0 has the lone surrogate"),
    ],
)
def test_what_is_no_list_of_tokens_is_refused_by_its_index(wrap, tokens, kind, message):
    with pytest.raises(kind, match=message):
        list(open_texts(wrap([["a"], tokens]), is_tokenized=True).texts)


def test_one_text_alone_is_a_list_of_tokens_within_a_list():
    with pytest.raises(InvalidType, match="with is_tokenized it is a collection of lists"):
        open_texts("a", is_tokenized=True)
    with pytest.raises(InvalidType, match="needs is_tokenized=True"):
        open_texts([["a"]])


LONGEST = "é" * (1 << 19)  # 1 MiB


@pytest.mark.parametrize("wrap", [list, iter])
@pytest.mark.parametrize(
    ("text", "part"), [(LONGEST + "a", ""), (("a", LONGEST + "a"), ": the second of the pair"), ("a" * (1 << 21), "")]
)
def test_a_text_that_no_server_takes_is_named_before_it_is_sent(wrap, text, part):
    size = len((text if isinstance(text, str) else text[1]).encode())
    message = f"^text 1{part}: {size} bytes; a text may have 1048576 bytes at most$"
    with pytest.raises(InvalidArgument, match=message) as e:
        list(open_texts(wrap([LONGEST, text])).texts)
    assert e.value.text_index == 1
