"""One family of dense vectors, sparse ones and those of tokens on a real server, beside what FlagEmbedding computes.

States are those of the same network in its other layout, a text at a time, which test_architectures compares with
transformers; what is made of them, `tests.support.checkpoints.m3` says once more. In tests/live/test_m3.py transformers
and PyTorch do both.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton
from transformers import AutoTokenizer

from client_sdk import AsyncClient, Client, InvalidArgument, LocalServer, SparseVector, maxsim
from client_sdk._commands.main import main
from export.checkpoint import checkpoint
from export.network import network
from tests.support.checkpoints.m3 import HIDDEN, LONGEST, dense, late, lexical
from tests.support.servers.gateways import RunningGateway, running_gateway
from tests.support.servers.triton_requests import infer, refused
from tests.support.trained_tokenizers import SIZE

TEXTS = [
    "The value that is returned is the value that was given.",
    "a",
    "It is an error to call this function. It is an error to call it twice, and an error to call it never.",
    "<s> literal </s> special <unk> tokens <mask> and <pad>",
    "漢字 that are unknown",
    "one word after another " * 40,
]
SPARSE = ["INDICES", "WEIGHTS"]
MULTI = ["TOKEN_EMBEDDING", "ATTENTION_MASK", "TOKEN_COUNT"]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def grpc(m3_server: LocalServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(m3_server.grpc_url.removeprefix("grpc://")) as client:
        yield client


@pytest.fixture(scope="module")
def own_gateway(m3_server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), m3_server.grpc_url, "--model", "m3") as running:
        yield running


@pytest.fixture(scope="module")
def states(m3_folder: Path) -> Any:
    """states(ids): of a text's tokens, [T, H]."""
    source = checkpoint.load(str(m3_folder))
    model = network.build(source.encoder, source.weights, is_padded=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def states(ids: Sequence[int]) -> np.ndarray:
        row = np.array([ids], np.int32)
        feed = {"input_ids": row, "attention_mask": row * 0 + 1, "token_type_ids": row * 0, "pooling_mask": row * 0 + 1}
        found: np.ndarray = session.run(["token_embeddings"], feed)[0][0]
        return found

    return states


@pytest.fixture(scope="module")
def ids(m3_folder: Path) -> list[list[int]]:
    """Of TEXTS, by transformers."""
    tokenizer = AutoTokenizer.from_pretrained(m3_folder)
    found = [tokenizer(text, truncation=True, max_length=LONGEST).input_ids for text in TEXTS]
    assert {3} <= {*found[4]} and {0, 1, 2, 3} <= {*found[3][1:-1]} and len(found[-1]) == LONGEST
    return found


def same_words(found: SparseVector, expected: dict[int, float]) -> None:
    assert {*found.indices.tolist()} == {*expected} and (np.diff(found.weights) <= 0).all()
    np.testing.assert_allclose(found.weights, [expected[i] for i in found.indices.tolist()], rtol=0, atol=TOLERANCE)


def test_one_family_gives_all_three_kinds(m3_server, states, ids):
    expected = [(dense(states(row)), lexical(states(row), row), late(states(row))) for row in ids]
    assert min(len(words) for _, words, _ in expected[2:]) > 3
    for url in (m3_server.grpc_url, m3_server.http_url):
        with Client(url, "m3") as client:
            vectors, sparse, tokens = client.encode(TEXTS), client.encode_sparse(TEXTS), client.encode_multi(TEXTS)
            assert sparse.dimension == SIZE and [len(one) for one in tokens] == [len(row) - 1 for row in ids]
            for index, (vector, words, of_tokens) in enumerate(expected):
                np.testing.assert_allclose(vectors[index], vector, rtol=0, atol=TOLERANCE)
                same_words(sparse[index], words)
                np.testing.assert_allclose(tokens[index], of_tokens, rtol=0, atol=TOLERANCE)
                one = TEXTS[index]
                np.testing.assert_allclose(client.encode(one), vector, rtol=0, atol=TOLERANCE)
                same_words(client.encode_sparse(one), words)
                np.testing.assert_allclose(client.encode_multi(one), of_tokens, rtol=0, atol=TOLERANCE)


def test_an_asynchronous_client_gets_all_three_at_once(m3_server, states, ids):
    async def asked() -> tuple[Any, Any, Any]:
        async with AsyncClient(m3_server.grpc_url, "m3") as client:
            calls = (client.encode(TEXTS), client.encode_sparse(TEXTS), client.encode_multi(TEXTS, input_type="query"))
            return await asyncio.gather(*calls)

    vectors, sparse, tokens = asyncio.run(asked())
    for index, row in enumerate(ids):
        found = states(row)
        np.testing.assert_allclose(vectors[index], dense(found), rtol=0, atol=TOLERANCE)
        same_words(sparse[index], lexical(found, row))
        np.testing.assert_allclose(tokens[index], late(found), rtol=0, atol=TOLERANCE)


def test_many_texts_of_each_kind_side_by_side_are_what_they_are_alone(m3_server, texts):
    with Client(m3_server.grpc_url, "m3") as client:
        sparse, tokens, vectors = client.encode_sparse(texts), client.encode_multi(texts), client.encode(texts)
        for index in (0, 7, 255, 499):
            np.testing.assert_allclose(vectors[index], client.encode(texts[index]), rtol=0, atol=TOLERANCE)
            alone = client.encode_sparse(texts[index])
            same_words(sparse[index], dict(zip(alone.indices.tolist(), alone.weights.tolist(), strict=True)))
            np.testing.assert_allclose(tokens[index], client.encode_multi(texts[index]), rtol=0, atol=TOLERANCE)


def test_a_text_is_cut_for_all_kinds_alike(m3_server, states, ids):
    with Client(m3_server.grpc_url, "m3") as client:
        row = [*ids[0][:6], 2]
        same_words(client.encode_sparse(TEXTS[0], max_seq_len=7), lexical(states(row), row))
        found = client.encode_multi(TEXTS[0], max_seq_len=7)
        np.testing.assert_allclose(found, late(states(row)), rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(client.encode(TEXTS[0], max_seq_len=7), dense(states(row)), rtol=0, atol=TOLERANCE)
        for encode in (client.encode, client.encode_sparse, client.encode_multi):
            with pytest.raises(InvalidArgument, match=r"text 5: \d+ tokens, more than max_seq_len 64"):
                encode(TEXTS, truncate=False)
        best = client.encode_sparse(TEXTS[0], max_active_dims=2)
        whole = client.encode_sparse(TEXTS[0])
        assert best.indices.tolist() == whole.indices[:2].tolist()


def test_ids_of_special_tokens_have_no_weight_wherever_they_stand_and_the_first_has_no_vector(grpc, states):
    rows = [[0, 30, 0, 40, 2, 3, 30, 1, 50, 2], [0, 3, 2], [0, 60, 60, 2]]
    array = np.array([[json.dumps(row).encode()] for row in rows], object)
    found = infer(grpc, "m3_sparse", {"TEXT": array}, SPARSE, {"is_tokenized": True})
    tokens = infer(grpc, "m3_multi", {"TEXT": array}, MULTI, {"is_tokenized": True})
    for index, row in enumerate(rows):
        there = found["INDICES"][index] >= 0
        same_words(
            SparseVector(found["INDICES"][index][there], found["WEIGHTS"][index][there]), lexical(states(row), row)
        )
        counted = tokens["TOKEN_EMBEDDING"][index][tokens["ATTENTION_MASK"][index] == 1]
        np.testing.assert_allclose(counted, late(states(row)), rtol=0, atol=TOLERANCE)
    assert (found["INDICES"][1] == -1).all() and not found["WEIGHTS"][1].any()
    bare = np.array([[b"[7, 8]"]], object)
    tokens = infer(grpc, "m3_multi", {"TEXT": bare}, MULTI, {"is_tokenized": True, "add_special_tokens": False})
    assert tokens["ATTENTION_MASK"].tolist() == [[0, 1]]


def test_vectors_of_tokens_of_the_network_are_there_too(m3_server, states, ids):
    with Client(m3_server.grpc_url, "m3") as client:
        for found, row in zip(client.encode_tokens(TEXTS), ids, strict=True):
            np.testing.assert_allclose(found.vectors, states(row), rtol=0, atol=TOLERANCE)


def test_dense_vectors_are_those_of_the_family_without_the_other_kinds(m3_server):
    """Which keeps what it has computed, as this one may."""
    with Client(m3_server.grpc_url, "m3") as client, Client(m3_server.grpc_url, "kept") as other:
        for _ in range(2):
            np.testing.assert_allclose(client.encode(TEXTS), other.encode(TEXTS), rtol=0, atol=TOLERANCE)
        assert client.info().identity != other.info().identity


def test_scores_are_those_of_flag_embedding(m3_server, states, ids):
    with Client(m3_server.grpc_url, "m3") as client:
        vectors, sparse, tokens = client.encode(TEXTS), client.encode_sparse(TEXTS), client.encode_multi(TEXTS)
        found = (
            client.similarity(vectors, vectors),
            client.similarity(sparse, sparse),
            maxsim(tokens, tokens, mean=True),
        )
        np.testing.assert_array_equal(client.similarity(tokens, tokens, metric="meanmaxsim"), found[2])
    rows = [states(row) for row in ids]
    of_dense = [[dense(a) @ dense(b) for b in rows] for a in rows]
    words = [lexical(one, row) for one, row in zip(rows, ids, strict=True)]
    of_words = [[sum(weight * b.get(index, 0) for index, weight in a.items()) for b in words] for a in words]
    of_tokens = [[(late(a) @ late(b).T).max(axis=1).sum() / len(late(a)) for b in rows] for a in rows]
    for one, expected in zip(found, (of_dense, of_words, of_tokens), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=TOLERANCE)


def test_the_family_says_all_that_it_gives(m3_server, capsys):
    for url in (m3_server.grpc_url, m3_server.http_url):
        with Client(url, "m3") as client:
            info = client.info()
            assert info.kinds == {"dense": HIDDEN, "sparse": SIZE, "multi": HIDDEN}
            assert (info.dimension, info.pooling, info.normalize, info.similarity) == (HIDDEN, "cls", True, "cosine")
            assert (info.labels, info.splade, info.multi) == ((), "", "identity normalize")
            assert info.identity and client.is_ready()
            given = r"'m3' gives vectors .encode, encode_tokens., sparse vectors .* and vectors for late interaction"
            with pytest.raises(InvalidArgument, match=rf"{given} \(encode_multi\), not scores of labels"):
                client.classify("a")
            with pytest.raises(InvalidArgument, match="gives vectors .*, not scores"):
                client.rerank("a", ["b"])
        with Client(url, "kept") as client:
            assert client.info().kinds == {"dense": HIDDEN}
            with pytest.raises(InvalidArgument, match="'kept' gives vectors .encode, encode_tokens., not sparse"):
                client.encode_sparse("a")
        assert main(["health", "--url", url, "--model", "m3"]) == 0
        assert f"gave a vector of {HIDDEN}" in capsys.readouterr().out
        assert main(["info", "--url", url, "--model", "m3"]) == 0
        assert json.loads(capsys.readouterr().out)["kinds"] == info.kinds


@pytest.mark.parametrize(
    ("model", "outputs", "parameters", "message"),
    [
        (
            "m3_sparse",
            SPARSE,
            {"pooling": "cls"},
            "parameter pooling is not for this model, which gives sparse vectors",
        ),
        ("m3_sparse", SPARSE, {"max_active_dims": 0}, "parameter max_active_dims is 0; it takes 1 and more"),
        ("m3_multi", MULTI, {"normalize": True}, "parameter normalize is not for .* gives a vector for each token"),
        ("m3", ["EMBEDDING"], {"max_active_dims": 3}, "parameter max_active_dims is not for .*, which gives vectors"),
    ],
)
def test_what_has_no_meaning_for_a_kind_is_refused(grpc, model, outputs, parameters, message):
    with refused(message):
        infer(grpc, model, {"TEXT": np.array([[b"a"]], object)}, outputs, parameters)


def test_the_last_step_alone_says_what_it_misses(grpc):
    ones = np.ones((1, 3), np.int32)
    weights = np.array([[[1], [0.5], [2]]], np.float32)
    found = infer(grpc, "m3_pooling", {"token_weights": weights, "input_ids": ones + 9, "attention_mask": ones}, SPARSE)
    assert found["INDICES"].tolist() == [[10]] and found["WEIGHTS"].tolist() == [[2]]
    with refused("the input input_ids is missing"):
        infer(grpc, "m3_pooling", {"token_weights": weights}, SPARSE)
    with refused("there is none of the inputs pooled, token_weights, token_vectors"):
        infer(grpc, "m3_pooling", {"input_ids": ones}, SPARSE)


def test_the_command_line_writes_each_kind(m3_server, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    asked = ["encode", str(tmp_path / "texts.txt"), "--model", "m3", "--url", m3_server.grpc_url]
    with Client(m3_server.grpc_url, "m3") as client:
        assert main([*asked, "-o", str(tmp_path / "dense.npy")]) == 0
        np.testing.assert_allclose(np.load(tmp_path / "dense.npy"), client.encode(TEXTS), rtol=0, atol=TOLERANCE)
        assert main([*asked, "--kind", "sparse", "-o", str(tmp_path / "sparse.jsonl")]) == 0
        lines = [json.loads(line) for line in (tmp_path / "sparse.jsonl").read_text().splitlines()]
        for line, vector in zip(lines, client.encode_sparse(TEXTS), strict=True):
            words = dict(zip(line["indices"], line["weights"], strict=True))
            same_words(vector, words)
        assert main([*asked, "--kind", "multi", "-o", str(tmp_path / "multi.npz")]) == 0
        with np.load(tmp_path / "multi.npz") as written:
            tokens = client.encode_multi(TEXTS)
            assert written["lengths"].tolist() == [len(one) for one in tokens]
            np.testing.assert_allclose(written["vectors"], np.concatenate(tokens), rtol=0, atol=TOLERANCE)


def test_the_gateway_asks_one_family_for_each_kind(own_gateway, m3_server):
    with Client(m3_server.grpc_url, "m3") as client:
        vectors, sparse, tokens = client.encode(TEXTS), client.encode_sparse(TEXTS), client.encode_multi(TEXTS)
    found = own_gateway.post("/embed", inputs=TEXTS).json
    np.testing.assert_allclose(found, vectors, rtol=0, atol=TOLERANCE)
    found = own_gateway.post("/v1/embeddings", model="m3", input=TEXTS).json["data"]
    np.testing.assert_allclose([one["embedding"] for one in found], vectors, rtol=0, atol=TOLERANCE)
    for row, vector in zip(own_gateway.post("/embed_sparse", inputs=TEXTS).json, sparse, strict=True):
        same_words(vector, {word["index"]: word["value"] for word in row})
    found = own_gateway.post("/v1/multi-vector", model="m3", input=TEXTS).json["data"]
    for item, expected in zip(found, tokens, strict=True):
        np.testing.assert_allclose(item["embeddings"], expected, rtol=0, atol=TOLERANCE)
    found = own_gateway.post("/pooling", model="m3", input=TEXTS, encoding_format="base64").json["data"]
    for item, expected in zip(found, tokens, strict=True):
        data = np.frombuffer(base64.b64decode(item["data"]), "<f4").reshape(-1, HIDDEN)
        np.testing.assert_allclose(data, expected, rtol=0, atol=TOLERANCE)


def test_the_gateway_says_all_that_a_family_gives(own_gateway):
    listed = {model["id"]: model for model in own_gateway.get("/v1/models").json["data"]}
    assert listed["m3"]["gives"] == ["vectors", "sparse vectors", "vectors for late interaction"]
    assert (listed["m3"]["dimensions"], listed["kept"]["gives"]) == (HIDDEN, ["vectors"])
    assert own_gateway.get("/info").json["model_type"] == {"embedding": {"pooling": "cls"}}
    assert own_gateway.get("/health/ready").json == {"status": "ready", "model": "m3"}
    answer = own_gateway.post("/v1/rerank", model="m3", query="a", documents=["b"])
    assert answer.status == 400
    described = (
        r"gives vectors \(/v1/embeddings.*\) and sparse vectors \(/embed_sparse\) and vectors for late .*\), not"
    )
    assert re.search(described, answer.json["message"])
    answer = own_gateway.post("/v1/multi-vector", model="m3", input="a", dimensions=8)
    assert answer.status == 400 and f"dimensions is 8; m3 gives {HIDDEN}" in answer.json["error"]["message"]
    answer = own_gateway.post("/embed_sparse", model="kept", inputs="a")
    assert answer.status == 422 and "not sparse vectors" in answer.json["error"]
