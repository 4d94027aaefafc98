"""Vectors for late interaction through both clients and the command line; their numbers are those of the server."""

import asyncio
import json
import re
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton

from client_sdk import AsyncClient, Client, InvalidArgument, InvalidType, maxsim
from client_sdk._commands.main import main
from tests.support.checkpoints.late_interaction import DIMENSION
from tests.support.servers.triton_requests import infer

TEXTS = ["The quick, brown fox.", "the lazy dog", "x, y. z", "the fox jumps over the dog, " * 5]


@pytest.fixture(scope="module")
def answered(kinds_server):
    """What the server answers to TEXTS by a plain client of Triton's, as so many arrays."""

    def answered(**parameters: Any) -> list[np.ndarray]:
        rows = np.array([[text.encode()] for text in TEXTS], object)
        outputs = ["TOKEN_EMBEDDING", "ATTENTION_MASK"]
        with triton.InferenceServerClient(kinds_server.grpc_url.removeprefix("grpc://")) as client:
            found = infer(client, "colbert_multi", {"TEXT": rows}, outputs, parameters)
        return [row[kept == 1] for row, kept in zip(*(found[name] for name in outputs), strict=True)]

    return answered


def check(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32 and one.shape == other.shape and one.shape[1] == DIMENSION
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("input_type", ["query", "document", None])
def test_each_text_has_the_vectors_of_its_tokens_that_count(kinds_server, answered, input_type):
    expected = answered(**({"input_type": input_type} if input_type else {}))

    async def asked() -> list[Any]:
        async with AsyncClient(kinds_server.grpc_url, "colbert") as client:
            several = await client.encode_multi(iter(TEXTS), input_type=input_type)
            return [several, await client.encode_multi(TEXTS[1], input_type=input_type)]

    for url in (kinds_server.grpc_url, kinds_server.http_url):
        with Client(url, "colbert") as client:
            check(client.encode_multi(TEXTS, input_type=input_type), expected)
            check(client.encode_multi(iter(TEXTS), input_type=input_type, batch_size=1), expected)
            check([client.encode_multi(TEXTS[1], input_type=input_type)], [expected[1]])
    several, one = asyncio.run(asked())
    check([*several, one], [*expected, expected[1]])


def test_a_query_is_no_document_and_a_prompt_of_ones_own_leaves_what_it_is(kinds_server, answered):
    query, document = (answered(input_type=kind) for kind in ("query", "document"))
    assert [len(one) for one in query] == [32] * 4 != [len(one) for one in document]  # which are not filled up
    with Client(kinds_server.grpc_url, "colbert") as client:
        check(
            client.encode_multi(TEXTS, input_type="query", prompt="the "), answered(input_type="query", prompt="the ")
        )
        prompted = client.encode_multi(TEXTS, input_type="document", prompt="the ")
    assert [len(one) - len(other) for one, other in zip(prompted, document, strict=True)] == [1, 1, 1, 1]


def test_documents_are_ranked_by_the_checkpoints_own_measure(kinds_server):
    with Client(kinds_server.http_url, "colbert") as client:
        queries = client.encode_multi(TEXTS[:2], input_type="query")
        documents = client.encode_multi(TEXTS, input_type="document")
        np.testing.assert_array_equal(client.similarity(queries, documents), maxsim(queries, documents))
        assert client.similarity(queries[0], documents).shape == (1, 4)
    # Each token of a text finds itself, and so the text is the best of all for it.
    found = maxsim(documents, documents)
    np.testing.assert_allclose(found.diagonal(), [len(document) for document in documents], rtol=1e-5)
    assert found.argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_a_family_for_late_interaction_says_what_it_is_and_what_it_gives(kinds_server, capsys):
    for url in (kinds_server.grpc_url, kinds_server.http_url):
        with Client(url, "colbert") as client:
            info = client.info()
            assert (info.multi, info.dimension, info.similarity) == ("identity normalize", DIMENSION, "maxsim")
            assert (info.pooling, info.labels, info.splade) == ("", (), "") and info.identity and client.is_ready()
            for ask in (
                lambda: client.encode("a"),
                lambda: client.encode_tokens("a"),
                lambda: client.rerank("a", ["b"]),
            ):
                with pytest.raises(
                    InvalidArgument, match=r"'colbert' at .* gives vectors for late interaction \(encode_m"
                ):
                    ask()
            for refused, message in (
                (lambda: client.classify("a"), "not scores of labels"),
                (lambda: client.encode_sparse("a"), "not sparse vectors"),
            ):
                with pytest.raises(InvalidArgument, match=f"gives vectors for late interaction .*, {message}"):
                    refused()
            with pytest.raises(InvalidType, match="text 0 is a pair"):
                client.encode_multi([("a", "b")])
        for name, gives in (("bert", "vectors"), ("reranker", "scores"), ("splade", "sparse vectors")):
            with (
                Client(url, name) as client,
                pytest.raises(InvalidArgument, match=f"gives {gives} .*, not vectors for l"),
            ):
                client.encode_multi("a")
        assert main(["health", "--url", url, "--model", "colbert"]) == 0
        assert re.search("gave vectors of \\d+ tokens, 16 numbers each", capsys.readouterr().out)


def test_the_command_line_writes_what_the_client_gets(kinds_server, answered, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    encode = [
        "encode",
        str(tmp_path / "texts.txt"),
        "--kind",
        "multi",
        "--input-type",
        "document",
        "--model",
        "colbert",
    ]
    for url in (kinds_server.grpc_url, kinds_server.http_url):
        for name in ("vectors.npz", "vectors.jsonl"):
            assert main([*encode, "-o", str(tmp_path / name), "--url", url]) == 0
        lines = [json.loads(line) for line in (tmp_path / "vectors.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [line["text"] for line in lines] == TEXTS
        check([np.array(line["vectors"], np.float32) for line in lines], answered(input_type="document"))
        with np.load(tmp_path / "vectors.npz") as archive:
            found = np.split(archive["vectors"], np.cumsum(archive["lengths"])[:-1])
        check(found, answered(input_type="document"))
