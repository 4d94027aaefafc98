"""What Qdrant alone has; the rest is in test_stores.py."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sdk import AccessDenied, InvalidArgument, ServerError, ServerUnreachable
from client_sdk.corpus import stores
from tests.support.corpora import vectors_of, write_corpus
from tests.support.stores import Qdrant

A_UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


@pytest.fixture
def kept(tmp_path: Path) -> Qdrant:
    return Qdrant(tmp_path / "qdrant")


def test_strings_that_are_no_uuids_become_some_and_stay_in_the_payload(kept: Qdrant, tmp_path: Path):
    ids = ["one", A_UUID, A_UUID.upper()]
    stores.load(write_corpus(tmp_path / "corpus", ids, vectors_of(3)), kept.url)
    wanted = [str(uuid.uuid5(uuid.NAMESPACE_OID, "one")), A_UUID, str(uuid.uuid5(uuid.NAMESPACE_OID, A_UUID.upper()))]
    with closing(kept.client()) as client:
        found = {point.id: point.payload for point in client.scroll("texts")[0]}
    assert found == {point: {"id": id_, "title": f"title of {id_}"} for point, id_ in zip(wanted, ids, strict=True)}


def test_negative_ids_are_refused(kept: Qdrant, tmp_path: Path):
    with pytest.raises(InvalidArgument, match="cannot hold a row with the id -1"):
        stores.load(write_corpus(tmp_path / "corpus", [1, -1], vectors_of(2)), kept.url)


@pytest.mark.parametrize(
    ("similarity", "dtype", "distance", "datatype"),
    [
        ("cosine", np.float32, "Cosine", "float32"),
        ("dot", np.float16, "Dot", "float16"),
        ("euclidean", np.uint8, "Euclid", "uint8"),
        ("manhattan", np.float32, "Manhattan", "float32"),
    ],
)
def test_a_collection_has_the_models_distance_and_precision(
    kept: Qdrant, tmp_path: Path, similarity: str, dtype: Any, distance: str, datatype: str
):
    vectors = np.abs(vectors_of(2)).astype(dtype) if dtype is np.uint8 else vectors_of(2, dtype=dtype)
    stores.load(write_corpus(tmp_path / "corpus", [1, 2], vectors, similarity=similarity), kept.url)
    with closing(kept.client()) as client:
        made = client.get_collection("texts").config
    assert (made.params.vectors.distance.value, made.params.vectors.datatype.value) == (distance, datatype)
    assert made.metadata["bert-on-triton"]["identity"] == "of bert"


def test_an_empty_collection_that_somebody_made_is_filled_and_keeps_its_model(kept: Qdrant, tmp_path: Path):
    with closing(kept.client()) as client:
        client.create_collection("texts", kept.parameters(8))
    stores.load(write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2)), kept.url)
    other = write_corpus(tmp_path / "other", [1, 2], vectors_of(2), identity="another")
    with pytest.raises(InvalidArgument, match="identity another"):
        stores.load(other, kept.url)


def test_named_vectors_are_refused(kept: Qdrant, tmp_path: Path):
    with closing(kept.client()) as client:
        client.create_collection("texts", {"title": kept.parameters(8)})
    with pytest.raises(InvalidArgument, match="has named vectors"):
        stores.load(write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2)), kept.url)


def test_a_similarity_that_it_does_not_have_is_refused(kept: Qdrant, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2), similarity="maxsim")
    with pytest.raises(InvalidArgument, match="similarity maxsim; it takes those of cosine, dot, euclidean, manhattan"):
        stores.load(corpus, kept.url)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_directory_that_another_client_has_open_is_told(kept: Qdrant, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2))
    with closing(kept.client()), pytest.raises(ServerError, match="already accessed by another instance"):
        stores.load(corpus, kept.url)


def test_a_server_that_is_not_there_is_unreachable(tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2))
    with pytest.raises(ServerUnreachable, match="Qdrant does not answer: .*refused"):
        stores.load(corpus, "qdrant://127.0.0.1:9/texts")


@pytest.fixture
def refusing() -> Iterator[tuple[str, list[str | None]]]:
    """The address of a server that lets nobody in, and the keys that it was shown."""
    keys: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers.get("api-key"))
            body = json.dumps({"status": {"error": "Must provide an API key"}}).encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"qdrant://127.0.0.1:{server.server_port}/texts", keys
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_the_key_of_the_environment_is_shown_to_the_server(
    refusing: tuple[str, list[str | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url, keys = refusing
    monkeypatch.setenv("QDRANT_API_KEY", "s3cret")
    with pytest.raises(AccessDenied, match="Qdrant answered .*401.*Must provide an API key") as raised:
        stores.load(write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2)), url)
    assert keys == ["s3cret"] and "s3cret" not in str(raised.value) and "\n" not in str(raised.value)
