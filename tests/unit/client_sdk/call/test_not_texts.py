"""What is often given as texts and is none. pandas, polars and Arrow are stood in for by what they are known by."""

import array
import io
import pathlib
from collections import OrderedDict, UserDict

import numpy as np
import pytest
from tqdm import tqdm

from client_sdk import AsyncClient, Client, InvalidType
from client_sdk._call.texts import open_texts
from client_sdk.bert_as_service import BertClient


class Table:
    """As a DataFrame: iterating gives the names of its columns."""

    ndim = 2

    @property
    def columns(self):
        return ["title", "text"]

    def __iter__(self):
        return iter(self.columns)


class NamedColumns:
    """As a datasets.Dataset or an Arrow table."""

    column_names = property(lambda self: ["text"])

    def __iter__(self):
        return iter([{"text": "a"}])


class Series:
    """A column: its elements are str, and its ndim is 1."""

    ndim = 1

    def __init__(self, *values):
        self.values = values

    def __iter__(self):
        return iter(self.values)

    def __len__(self):
        return len(self.values)


class Scalar:
    def __init__(self, value):
        self.value = value

    def as_py(self):
        return self.value


class Arrow(Series):
    def __iter__(self):
        return map(Scalar, self.values)

    def to_pylist(self):
        return list(self.values)


class Accessor:
    """As Series.str: it has the method, and refuses."""

    def __iter__(self):
        raise TypeError("it is not iterable")


class NAType:
    def __ne__(self, other):
        raise TypeError("boolean value of NA is ambiguous")


async def stream():
    yield "a"


async def later():
    return ["a"]


REFUSED = [
    (lambda: Table(), r"a table.* as in texts\['text'\]"),
    (lambda: NamedColumns(), "a table"),
    (lambda: {"id-1": "red river"}, r"give list\(texts.values\(\)\) or list\(texts\)"),
    (lambda: OrderedDict(a="b"), "list"),
    (lambda: UserDict(a="b"), "list"),
    (lambda: {"a": "b"}.items(), r"list\(mapping.values\(\)\), or list\(mapping.items\(\)\)"),
    (lambda: {"a", "b"}, "a set has no order"),
    (lambda: frozenset("ab"), "a set has no order"),
    (lambda: io.StringIO("a\nb\n"), r"read\(\).splitlines\(\)"),
    (lambda: io.BytesIO(b"a\nb\n"), r"read\(\).splitlines\(\)"),
    (lambda: pathlib.Path("texts.txt"), r"open\(path, encoding='utf-8'\)"),
    (lambda: b"bytes", r"texts.decode\(\)"),
    (lambda: memoryview(b"bytes"), r"texts.decode\(\)"),
    (lambda: array.array("i", [1]), "give a list of str"),
    (lambda: np.array("red river"), r"no dimension.* texts.item\(\)"),
    (
        lambda: np.array([["a", "b"]]),
        r"2 dimensions: give a column, as in texts\[:, 0\], or list\(map\(tuple, texts\)\)",
    ),
    (lambda: Scalar("a"), r"give its as_py\(\)"),
    (lambda: Accessor(), r"Accessor \(it is not iterable\)"),
    (lambda: stream, "call it"),
    (lambda: 5, "int$"),
]


@pytest.mark.parametrize(("make", "advice"), REFUSED)
@pytest.mark.parametrize("call", ["encode", "encode_tokens", "count_tokens"])
def test_what_is_no_collection_of_texts_is_refused_with_what_to_write(make, advice, call):
    given = make()
    refused = pytest.raises(InvalidType, match=f"^texts must be a str or an iterable of str, not .*{advice}")
    with Client("grpc://127.0.0.1:1") as client, refused:
        getattr(client, call)(given)
    if hasattr(given, "close"):
        given.close()


@pytest.mark.parametrize(("make", "advice"), REFUSED)
async def test_an_asynchronous_client_refuses_the_same(make, advice):
    given = make()
    async with AsyncClient("grpc://127.0.0.1:1") as client:
        with pytest.raises(InvalidType, match=advice):
            await client.encode(given)
    if hasattr(given, "close"):
        given.close()


def test_bert_as_service_takes_lists_alone_and_says_what_to_write():
    with BertClient(ignore_all_checks=True) as client:
        for given, advice in [
            (Table(), "a table"),
            ({"a": "b"}, "values"),
            ("a", "give \\[text\\]"),
            (Series("a"), "list"),
        ]:
            with pytest.raises(TypeError, match=f'"texts" must be a list, but received .*{advice}'):
                client.encode(given)
        with pytest.raises(TypeError, match="element 1 is float; it is a missing value"):
            client.encode(["a", float("nan")])


def test_a_coroutine_is_to_be_awaited_and_an_async_stream_is_for_the_other_client():
    coroutine = later()
    with pytest.raises(InvalidType, match="not coroutine: await it first"):
        open_texts(coroutine)
    coroutine.close()
    with pytest.raises(InvalidType, match=r"only AsyncClient reads it: give \[text async for text in texts\]"):
        open_texts(stream())


@pytest.mark.parametrize(
    "texts",
    [
        Series("a", "b"),
        Arrow("a", "b"),
        {"a": 1, "b": 2}.keys(),
        {1: "a", 2: "b"}.values(),
        map(str, "ab"),
        np.array(["a", "b"], object),
        np.ma.array(["a", "b"]),
        (np.str_(text) for text in "ab"),
    ],
)
def test_what_gives_str_is_taken(texts):
    assert list(open_texts(texts).texts) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (None, "NoneType.*missing value: leave it out"),
        (float("nan"), "float.*missing value"),
        (np.float32("nan"), "float32.*missing value"),
        (NAType(), "NAType.*missing value"),
        (b"c", r"bytes.*text.decode\(\)"),
        (np.bytes_(b"c"), r"bytes_.*text.decode\(\)"),
        ({"text": "c"}, r"dict.*row\['text'\]"),
        (["c", "d"], r"list.*is_tokenized=True.*tuple\(pair\)"),
        (Scalar("c"), r"Scalar.*as_py\(\)"),
        (np.array(["c", "d"]), r"ndarray.*list\(map\(tuple, texts\)\)"),
        (1, r"int.*str\(value\)"),
        (pathlib.Path("c"), "Path; a text is a str"),
    ],
)
@pytest.mark.parametrize("wrap", [list, iter, lambda texts: Series(*texts)])
def test_what_is_no_text_is_refused_by_its_index_with_what_to_write(wrap, text, advice):
    with pytest.raises(InvalidType, match=f"^text 1 is .*{advice}"):
        list(open_texts(wrap(["a", text])).texts)


def test_a_bar_around_a_stream_has_no_length_that_could_be_told():
    source = open_texts(tqdm((text for text in "ab"), disable=True))
    assert source.count is None and list(source.texts) == ["a", "b"]


def test_what_a_stream_raises_comes_through():
    def broken():
        yield "a"
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(open_texts(broken()).texts)
