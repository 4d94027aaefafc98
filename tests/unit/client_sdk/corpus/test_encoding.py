"""What becomes of a block of rows, with a transport without a wire."""

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from client_sdk import Client, InvalidArgument, ServerBusy, ServerError
from client_sdk._settings import make_settings
from client_sdk._transport.base import Arrays, InferRequest
from client_sdk.corpus import CorpusSettings
from client_sdk.corpus.about import AboutVectors
from client_sdk.corpus.encoding import BlockEncoder, Encode
from client_sdk.corpus.inputs import KEY, PROBLEM, TEXT, TOKENS
from client_sdk.corpus.tally import Counts, Standing, _Counting
from tests.support.fake_transport import FakeTransport, texts_of

ABOUT = AboutVectors("id", "vector", "bert", "", "cosine", "float32", 2, 4)


def answer(request: InferRequest) -> Arrays:
    """The length of each text, twice; so many tokens; a text with `!` is refused."""
    texts = [str(text) for text in texts_of(request)]
    for index, text in enumerate(texts):
        if "!" in text:
            raise InvalidArgument.of_text(index, " has a !")
    lengths = np.array([[len(text)] for text in texts])
    return {"EMBEDDING": np.repeat(lengths, 2, axis=1).astype(np.float32), "TOKEN_COUNT": lengths.astype(np.int32)}


def block(*texts: str | bytes | None, problems: dict[int, str] | None = None) -> pa.Table:
    content = [text.encode() if isinstance(text, str) else text for text in texts]
    said = [(problems or {}).get(row) for row in range(len(texts))]
    return pa.table(
        {
            KEY: pa.array(range(len(texts)), pa.int64()),
            TEXT: pa.array(content, pa.large_binary()),
            PROBLEM: pa.array(said, pa.string()),
            "title": pa.array([f"title {row}" for row in range(len(texts))]),
        }
    )


@pytest.fixture
def encoder(monkeypatch):
    def make(answers: Any = answer, **options: Any) -> tuple[BlockEncoder, FakeTransport]:
        transport = FakeTransport(answers)
        monkeypatch.setattr("client_sdk._session.open_transport", lambda connections: transport)
        settings = CorpusSettings(["in"], "out", make_settings("localhost:1", "bert"), **options)
        return BlockEncoder(settings, ABOUT), transport

    return make


def test_each_text_gets_its_vector_and_what_cannot_have_one_a_reason(encoder):
    encode, transport = encoder()
    rows = block("one", None, "  ", b"\xff", "three!", "a" * (1 << 20) + "b", "said", "four", problems={6: "broken"})
    found, counts = encode.encode(rows)
    assert found.column("vector").to_pylist() == [[3, 3], *[None] * 6, [4, 4]]
    assert found.column("vector").type == pa.list_(pa.float32(), 2)
    assert found.column("title").to_pylist() == rows.column("title").to_pylist()
    assert found.column(PROBLEM).to_pylist() == [
        None,
        "the text is null",
        "the text is blank: there is nothing in it to read",
        "the text is not UTF-8: invalid start byte at byte 0",
        "the text has a !",
        "the text has 1,048,577 bytes, and 1,048,576 are allowed",
        "broken",
        None,
    ]
    assert found.column(TOKENS).to_pylist() == [3, 0, 0, 0, 0, 0, 0, 4]
    assert counts == Counts(texts=8, refused=6, tokens=7, cut=0, servers=Counter({"": 2}))
    assert all(request.parameters["bulk"] is True for request in transport.requests)


def test_a_text_of_more_tokens_than_are_used_is_counted_as_cut(encoder):
    _, counts = encoder()[0].encode(block("four", "fives"))
    assert counts == Counts(texts=2, tokens=9, cut=1, servers=Counter({"": 2}))


def test_a_row_without_an_id_is_refused_where_ids_are_a_column(encoder):
    rows = block("one", "four", "five").append_column("doc", pa.array(["a", None, ""]))
    found, counts = encoder(id_column="doc")[0].encode(rows)
    assert found.column(PROBLEM).to_pylist() == [None, "the id is null", "the id is empty"]
    assert (found.column("vector").to_pylist(), counts.refused) == ([[3, 3], None, None], 2)


def test_a_block_without_a_text_that_can_be_encoded_asks_nobody(encoder):
    encode, transport = encoder()
    found, counts = encode.encode(block(None, ""))
    assert found.column("vector").to_pylist() == [None, None]
    assert (counts, transport.requests) == (Counts(texts=2, refused=2), [])


def test_a_block_whose_texts_are_all_refused_is_one_of_refused_texts(encoder):
    found, counts = encoder()[0].encode(block("a!", "b!"))
    assert (found.column("vector").to_pylist(), counts.refused) == ([None, None], 2)


def test_a_number_that_float16_does_not_reach_is_a_reason_of_its_text_alone(encoder):
    def large(request: InferRequest) -> Arrays:
        found = answer(request)
        return {**found, "EMBEDDING": np.where(found["EMBEDDING"] == 5, np.float32(1e6), found["EMBEDDING"])}

    found, _ = encoder(large, options={"precision": "float16"})[0].encode(block("one", "fives", "four"))
    assert found.column("vector").to_pylist() == [[3, 3], None, [4, 4]]
    assert found.column("vector").type == pa.list_(pa.float16(), 2)
    assert "float16 ends at 65504" in found.column(PROBLEM).to_pylist()[1]


def test_a_server_that_is_away_for_a_while_is_waited_for(encoder, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("client_sdk.corpus.encoding.time.sleep", waits.append)
    tries = 0

    def away_twice(self: BlockEncoder, texts: list[str], vectors: Any) -> None:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise ServerBusy("not now")
        call(self, texts, vectors)

    call = BlockEncoder._call
    monkeypatch.setattr(BlockEncoder, "_call", away_twice)
    found, _ = encoder()[0].encode(block("one"))
    assert (found.column("vector").to_pylist(), waits) == ([[3, 3]], [1.0, 2.0])


def test_one_that_stays_away_ends_the_job(encoder, monkeypatch):
    def busy(self: BlockEncoder, texts: list[str], vectors: Any) -> None:
        raise ServerBusy("not now")

    monkeypatch.setattr(BlockEncoder, "_call", busy)
    with pytest.raises(ServerBusy, match="not now"):
        encoder(patience=0.5)[0].encode(block("one"))


def test_a_vector_that_means_nothing_ends_the_job(encoder):
    def broken(request: InferRequest) -> Arrays:
        return {**answer(request), "EMBEDDING": np.full((len(request.rows), 2), np.nan, np.float32)}

    with pytest.raises(ServerError, match="not finite"):
        encoder(broken)[0].encode(block("one"))


def test_a_worker_counts_what_it_has_done_and_says_why_it_fails(encoder):
    class Told:
        def __init__(self) -> None:
            self.counts = Counts()
            self.under_way: Any = lambda block, texts: None
            self.failures: list[Exception] = []

        def add(self, counts: Counts, block: int, example: str) -> None:
            self.counts += counts
            self.example = example

        def fail(self, error: Exception) -> None:
            self.failures.append(error)

    def broken(request: InferRequest) -> Arrays:
        if "four" in texts_of(request):
            raise ServerError("the network broke")
        return answer(request)

    tally = Told()
    block_encoder, _ = encoder(broken)
    worker = Encode(block_encoder._settings, ABOUT, tally, {0: "a.txt"})  # type: ignore[arg-type]
    assert worker(block("one", None)).num_rows == 2
    assert tally.counts == Counts(texts=2, refused=1, tokens=3, servers=Counter({"": 1}))
    assert tally.example == "of row 1 of a.txt, the text is null"
    with pytest.raises(ServerError, match="the network broke"):
        worker(block("four"))
    assert [str(error) for error in tally.failures] == ["the network broke"]


def test_each_reply_is_told_though_the_block_is_not_done(encoder):
    told: list[int] = []
    encoder(options={"batch_size": 2})[0].encode(block("a", "b", "c", None, "d", "e"), told.append)
    assert sorted(told) == told and told[-1] == 5 and len(told) == 3


def test_a_block_that_is_sent_once_more_is_told_and_counted_from_its_beginning(encoder, monkeypatch):
    monkeypatch.setattr("client_sdk.corpus.encoding.time.sleep", lambda seconds: None)
    told: list[int] = []
    call = BlockEncoder._call

    def away_after_all(self: BlockEncoder, texts: list[str], vectors: Any) -> None:
        call(self, texts, vectors)
        if len(told) < 2:
            raise ServerBusy("not now")

    monkeypatch.setattr(BlockEncoder, "_call", away_after_all)
    _, counts = encoder()[0].encode(block("a", "b"), told.append)
    assert (told, counts.servers) == ([2, 2], Counter({"": 2}))


def test_texts_of_a_block_under_way_count_until_it_is_done_and_once_whoever_begins_it():
    counting = _Counting()
    assert counting.standing() == Standing(Counts(), 0.0)
    counting.under_way(7, 0)
    counting.under_way(7, 30)
    counting.under_way(9, 5)
    counting.under_way(7, 10)  # another worker has begun it again
    assert counting.standing().counts == Counts(texts=15)
    counting.add(Counts(texts=64, refused=1), 7)
    assert counting.standing().counts == Counts(texts=69, refused=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inputs": []}, "no input was given"),
        ({"inputs": "texts/"}, "inputs must be a list, also where there is one alone, not str"),
        ({"inputs": Path("texts")}, "inputs must be a list, also where there is one alone, not PosixPath"),
        ({"inputs": ["a", 5]}, r"inputs\[1\] must be a str or a path, not int"),
        ({"output": None}, "output must be a str or a path, not NoneType"),
        ({"client": "localhost:8001"}, "client must be a Client, not str"),
        ({"text_column": None}, "text_column must be a str, not NoneType"),
        ({"id_column": 5}, "id_column must be a str or None, not int"),
        ({"columns": "title"}, "columns must be a list, also where there is one alone, not str"),
        ({"max_errors": "3"}, "max_errors must be an int or None, not str"),
        ({"patience": -1}, "patience must be a positive, finite number of seconds"),
        ({"options": None}, "options must be a mapping, not NoneType"),
        ({"options": {"poling": "cls"}}, "a corpus has no option 'poling'; it has batch_size, input_type, .*pooling"),
        ({"options": {"priority": "bulk"}}, "no option 'priority'"),
        ({"options": {"timeout": 5}}, "no option 'timeout'"),
        ({"options": {"is_tokenized": True}}, "no option 'is_tokenized'"),
        ({"options": {"batch_size": "8"}}, "batch_size must be an int, not str"),
        ({"columns": ["vector"]}, "has a column 'vector' of its own"),
        ({"columns": ["file"]}, "has a column 'file' of its own"),
        ({"columns": ["a", "a"]}, "'a' is asked for twice"),
        ({"columns": ["n"], "id_column": "n"}, "'n' is asked for twice"),
        ({"max_errors": -1}, "max_errors must be at least 0"),
        ({"rows_per_file": 0}, "rows_per_file must be at least 1"),
        ({"options": {"pooling": "best"}}, "pooling 'best' is not known"),
        ({"options": {"precision": "int4"}}, "precision 'int4' is not known"),
    ],
)
def test_wrong_settings_are_refused_when_they_are_made(wrong, message):
    settings: dict[str, Any] = {"inputs": ["in"], "output": "out", "client": make_settings("localhost:1", "bert")}
    with pytest.raises(InvalidArgument, match=message):
        CorpusSettings(**{**settings, **wrong})


def test_a_client_says_how_the_servers_are_reached_and_travels_with_the_settings():
    client = Client("a:1,b:1", "minilm", api_key="secret-key", timeout=5)
    settings = CorpusSettings([Path("in"), "s3://bucket/in"], Path("out"), client)
    assert settings.servers == client._session.settings and settings.worker_count == 4
    assert settings.fingerprint("abc")["model"] == "minilm" and "secret-key" not in repr(settings)
    assert pickle.loads(pickle.dumps(settings)).servers == settings.servers


def test_file_and_row_are_free_where_there_is_a_column_of_ids():
    CorpusSettings(["in"], "out", make_settings("localhost:1", "bert"), id_column="id", columns=["file", "row"])
