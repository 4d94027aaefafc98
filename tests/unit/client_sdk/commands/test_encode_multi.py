"""`encode --kind multi`, of a server that gives a text as many vectors as it has words, with holes between them."""

import io
import json
import sys

import numpy as np
import pytest

from client_sdk import _session
from client_sdk._commands.main import main
from tests.support.fake_transport import FakeTransport, texts_of

TEXTS = ["one", "one two three", "one two"]


class Server(FakeTransport):
    def __init__(self):
        super().__init__(self.reply)

    def reply(self, request):
        counts = [len(text.split()) for text in texts_of(request)]
        kept = np.zeros((len(counts), 2 * max(counts) + 1), np.int32)
        for row, count in zip(kept, counts, strict=True):
            row[1 : 2 * count : 2] = 1
        rows, places = np.indices(kept.shape)
        vectors = np.stack([np.array(counts, np.float32)[rows], places / 3], axis=2).astype(np.float32)
        vectors[kept == 0] = np.nan
        return {"TOKEN_EMBEDDING": vectors, "ATTENTION_MASK": kept}

    def query(self, query, timeout):
        answer = super().query(query, timeout)
        of_kind = {"multi": {"string_value": "identity normalize"}, "dimension": {"string_value": "2"}}
        return {**answer, "parameters": of_kind}


@pytest.fixture(autouse=True)
def server(monkeypatch):
    server = Server()
    monkeypatch.setattr(_session, "open_transport", lambda connections: server)
    server.close = lambda: None
    return server


@pytest.fixture
def encode(tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))

    def encode(*arguments):
        """The exit code, standard output and standard error."""
        code = main(["encode", str(tmp_path / "texts.txt"), "--kind", "multi", *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return encode


def expected(text):
    count = len(text.split())
    return np.array([[count, place / 3] for place in range(1, 2 * count, 2)], np.float32)


@pytest.mark.parametrize("is_plain", [False, True], ids=["orjson", "json"])
def test_json_lines_have_a_vector_for_each_token_that_counts(encode, server, monkeypatch, is_plain):
    if is_plain:
        monkeypatch.setitem(sys.modules, "orjson", None)
    code, out, _ = encode("--input-type", "query", "--batch-size", "2")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [line["text"] for line in found] == TEXTS
    for line in found:
        np.testing.assert_array_equal(np.array(line["vectors"], np.float32), expected(line["text"]))
    assert {request.model for request in server.requests} == {"bert_multi"}
    assert {request.parameters["input_type"] for request in server.requests} == {"query"}


def test_an_archive_has_all_vectors_end_to_end_and_how_many_are_of_each_text(encode, tmp_path):
    assert encode("-o", str(tmp_path / "vectors.npz"), "--batch-size", "1")[0] == 0
    with np.load(tmp_path / "vectors.npz") as archive:
        assert sorted(archive) == ["lengths", "vectors"]
        lengths, vectors = archive["lengths"], archive["vectors"]
    assert lengths.tolist() == [1, 3, 2] and vectors.dtype == np.float32
    for found, text in zip(np.split(vectors, np.cumsum(lengths)[:-1]), TEXTS, strict=True):
        np.testing.assert_array_equal(found, expected(text))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt", "vectors.npz"]


def test_what_was_done_before_an_error_can_be_read(encode, server, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one two\n\xff\n")))
    code = main(["encode", "--kind", "multi", "-o", str(tmp_path / "vectors.npz")])
    assert code == 2
    with np.load(tmp_path / "vectors.npz.partial") as archive:
        np.testing.assert_array_equal(archive["vectors"], expected("one two"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "vectors.npy"], "'vectors.npy': the name must end in .npz or .jsonl"),
        (["--pooling", "cls"], "--pooling is for dense vectors: leave it out, or give --kind dense"),
        (["--max-active-dims", "3"], "--max-active-dims is for sparse vectors"),
        (["--pairs"], "--pairs is not for --kind multi, which takes each text for itself"),
        (["--kind", "sparse"], "model 'bert' gives vectors for late interaction (encode_multi), not sparse vectors"),
    ],
)
def test_what_cannot_be_done_is_named(encode, arguments, message):
    code, out, err = encode(*arguments)
    assert code == 2 and out == "" and message in err
