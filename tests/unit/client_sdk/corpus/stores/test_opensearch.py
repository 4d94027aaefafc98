"""What is sent to OpenSearch: recorded by an HTTP server that answers as its documentation says."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sdk import AccessDenied, InvalidArgument, ServerBusy, ServerUnreachable
from client_sdk.corpus import stores
from tests.support.corpora import vectors_of, write_corpus


class Recorder(ThreadingHTTPServer):
    """Keeps one index: what it was made of, and its documents."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.made: dict[str, Any] | None = None
        self.documents: dict[str, Any] = {}
        self.requests: list[str] = []
        self.authorization: set[str | None] = set()
        self.busy = 0
        self.closed_to_all = False
        self.refused: str | None = None

    @property
    def url(self) -> str:
        return f"opensearch://127.0.0.1:{self.server_port}/texts"


class Handler(BaseHTTPRequestHandler):
    server: Recorder
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(404 if self.server.made is None else 200, None)

    def do_GET(self) -> None:
        if self.path.endswith("/_mapping"):
            self.answer(200, {"texts": {"mappings": self.server.made["mappings"]}})
        else:
            self.answer(404, {})

    def do_PUT(self) -> None:
        body = self.body()
        if self.path.endswith("/_mapping"):
            self.server.made["mappings"].update(json.loads(body))
        else:
            self.server.made = json.loads(body)
        self.answer(200, {"acknowledged": True})

    def do_POST(self) -> None:
        body = self.body()
        if self.path.endswith("/_count"):
            self.answer(200, {"count": len(self.server.documents)})
        elif self.path.endswith("/_bulk"):
            self.bulk(body.decode())
        else:
            self.answer(200, {})

    def bulk(self, body: str) -> None:
        assert body.endswith("\n") and self.headers["Content-Type"] == "application/json"
        lines = [json.loads(line) for line in body.splitlines()]
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            ((operation, target),) = action.items()
            assert (operation, target["_index"]) == ("index", "texts")
            status = 201
            if self.server.busy:
                self.server.busy -= 1
                status = 429
            elif target["_id"] == self.server.refused:
                status = 400
            else:
                self.server.documents[target["_id"]] = document
            error = {"error": {"type": "mapper_parsing_exception", "reason": "failed to parse"}} if status > 201 else {}
            items.append({"index": {"_index": "texts", "_id": target["_id"], "status": status, **error}})
        self.answer(200, {"errors": any("error" in item["index"] for item in items), "items": items})

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, value: Any) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.authorization.add(self.headers.get("Authorization"))
        if self.server.closed_to_all:
            status, value = 401, None
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_index_is_made_and_each_row_is_a_document(recorder: Recorder, tmp_path: Path):
    vectors = vectors_of(20)
    corpus = write_corpus(tmp_path / "corpus", np.arange(20), vectors)
    assert stores.load(corpus, recorder.url) == 20
    assert recorder.made["settings"] == {"index": {"knn": True}}
    assert recorder.made["mappings"]["properties"]["vector"] == {
        "type": "knn_vector",
        "dimension": 8,
        "data_type": "float",
        "method": {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"},
    }
    assert recorder.made["mappings"]["_meta"]["bert-on-triton"]["identity"] == "of bert"
    assert sorted(recorder.documents, key=int) == [str(id_) for id_ in range(20)]
    for id_, vector in enumerate(vectors):
        document = recorder.documents[str(id_)]
        np.testing.assert_array_equal(np.array(document.pop("vector"), np.float32), vector)
        assert document == {"id": id_, "title": f"title of {id_}"}
    assert recorder.requests[-1] == "POST /texts/_refresh"


def test_to_load_again_changes_nothing(recorder: Recorder, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", ["one", "two"], vectors_of(2))
    stores.load(corpus, recorder.url)
    made, documents = json.dumps(recorder.made), dict(recorder.documents)
    stores.load(corpus, recorder.url)
    assert (json.dumps(recorder.made), recorder.documents) == (made, documents)


def test_int8_is_a_vector_of_bytes(recorder: Recorder, tmp_path: Path):
    vectors = vectors_of(2, dtype=np.int8)
    stores.load(write_corpus(tmp_path / "corpus", [1, 2], vectors, similarity="euclidean"), recorder.url)
    made = recorder.made["mappings"]["properties"]["vector"]
    assert (made["data_type"], made["method"]["space_type"]) == ("byte", "l2")
    assert recorder.documents["2"]["vector"] == vectors[1].tolist()


def test_another_model_and_another_length_are_refused(recorder: Recorder, tmp_path: Path):
    stores.load(write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2)), recorder.url)
    other = write_corpus(tmp_path / "other", [1, 2], vectors_of(2), identity="another")
    with pytest.raises(InvalidArgument, match="identity another"):
        stores.load(other, recorder.url)
    shorter = write_corpus(tmp_path / "shorter", [1, 2], np.ones((2, 5), np.float32))
    with pytest.raises(InvalidArgument, match="vector of knn_vector 8, and the corpus knn_vector 5"):
        stores.load(shorter, recorder.url)


def test_an_empty_index_that_somebody_made_is_filled_and_keeps_its_model(recorder: Recorder, tmp_path: Path):
    recorder.made = {"mappings": {"properties": {"vector": {"type": "knn_vector", "dimension": 8}}}}
    corpus = write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2))
    stores.load(corpus, recorder.url)
    assert recorder.made["mappings"]["_meta"]["bert-on-triton"]["identity"] == "of bert"
    del recorder.made["mappings"]["_meta"]
    with pytest.raises(InvalidArgument, match="nothing says of which model"):
        stores.load(corpus, recorder.url)


def test_what_a_busy_server_did_not_take_is_sent_again(recorder: Recorder, tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr("opensearchpy.helpers.actions.time.sleep", lambda seconds: None)
    recorder.busy = 5
    stores.load(write_corpus(tmp_path / "corpus", np.arange(20), vectors_of(20)), recorder.url)
    assert len(recorder.documents) == 20
    recorder.busy = 1000
    with pytest.raises(ServerBusy, match="refused 20 rows, the first of them 0: "):
        stores.load(tmp_path / "corpus", recorder.url)


def test_a_row_that_is_refused_is_named(recorder: Recorder, tmp_path: Path):
    recorder.refused = "two"
    with pytest.raises(InvalidArgument, match="refused 1 rows, the first of them two: failed to parse"):
        stores.load(write_corpus(tmp_path / "corpus", ["one", "two"], vectors_of(2)), recorder.url)


def test_ids_that_are_too_long_are_refused(recorder: Recorder, tmp_path: Path):
    with pytest.raises(InvalidArgument, match="ids of 1 to 512 bytes, not 'xxx"):
        stores.load(write_corpus(tmp_path / "corpus", ["one", "x" * 513], vectors_of(2)), recorder.url)


@pytest.mark.parametrize("where", ["url", "environment"])
def test_a_user_and_a_password_are_sent_and_not_shown(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    url = recorder.url
    if where == "url":
        url = url.replace("//", "//me:s3%2Fcret@")
    else:
        monkeypatch.setenv("OPENSEARCH_USERNAME", "me")
        monkeypatch.setenv("OPENSEARCH_PASSWORD", "s3/cret")
    corpus = write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2))
    stores.load(corpus, url)
    assert recorder.authorization == {f"Basic {base64.b64encode(b'me:s3/cret').decode()}"}
    recorder.closed_to_all = True
    with pytest.raises(AccessDenied, match="OpenSearch answered 401") as raised:
        stores.load(corpus, url)
    assert "cret" not in str(raised.value)


def test_a_similarity_that_it_does_not_have_is_refused(recorder: Recorder, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2), similarity="manhattan")
    with pytest.raises(InvalidArgument, match="similarity manhattan; it takes those of cosine, dot, euclidean"):
        stores.load(corpus, recorder.url)


def test_a_server_that_is_not_there_is_unreachable(tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2))
    with pytest.raises(ServerUnreachable, match="OpenSearch does not answer"):
        stores.load(corpus, "opensearch://127.0.0.1:9/texts")
