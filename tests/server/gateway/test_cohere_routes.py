"""Cohere's, Jina's and NIM's routes, on a real server: what they answer is what the client is answered."""

import base64

import numpy as np
import pytest

from tests.support.servers.gateways import RunningGateway, same

TEXTS = ["First do it", "then do it right"]
LONG = "a much longer text " * 200
QUERY = "the quick fox"


@pytest.mark.parametrize(
    ("kind", "precision", "dtype"),
    [
        ("float", "float32", np.float32),
        ("int8", "int8", np.int8),
        ("uint8", "uint8", np.uint8),
        ("binary", "binary", np.int8),
        ("ubinary", "ubinary", np.uint8),
    ],
)
def test_vectors_are_those_of_the_client(gateway: RunningGateway, client_of, kind, precision, dtype):
    answer = gateway.post("/v2/embed", model="bert", texts=TEXTS, input_type="search_document", embedding_types=[kind])
    assert answer.status == 200 and [*answer.json["embeddings"]] == [kind] and answer.json["texts"] == TEXTS
    found = np.array(answer.json["embeddings"][kind], dtype)
    same(found, client_of("bert").encode(TEXTS, precision=precision))


def test_several_types_come_of_one_call(gateway: RunningGateway, client_of):
    types = ["float", "base64", "ubinary"]
    answer = gateway.post("/v2/embed", model="bert", texts=TEXTS, embedding_types=types, output_dimension=64)
    expected = client_of("bert").encode(TEXTS, truncate_dim=64)
    found = answer.json["embeddings"]
    same(np.array(found["float"], np.float32), expected)
    same([np.frombuffer(base64.b64decode(row), "<f4") for row in found["base64"]], expected)
    np.testing.assert_array_equal(found["ubinary"], np.packbits(expected > 0, axis=-1))
    both = gateway.post("/v2/embed", model="bert", texts=TEXTS, embedding_types=["uint8", "int8"]).json["embeddings"]
    np.testing.assert_array_equal(np.array(both["int8"]) + 128, both["uint8"])
    tokens = int(client_of("bert").count_tokens(TEXTS).sum())
    meta = answer.json["meta"]
    assert meta == {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}}


@pytest.mark.parametrize(
    ("input_type", "method"),
    [("search_query", "encode_query"), ("search_document", "encode_document"), ("clustering", "encode")],
)
def test_the_input_type_chooses_the_prompt(gateway: RunningGateway, client_of, input_type, method):
    found = gateway.post("/v2/embed", model="small", texts=[QUERY], input_type=input_type).json["embeddings"]["float"]
    same(np.array(found, np.float32), getattr(client_of("small"), method)([QUERY]))


@pytest.mark.parametrize(("path", "version"), [("/v2/rerank", "2"), ("/v1/rerank", "1"), ("/rerank", "1")])
def test_documents_are_ranked(gateway: RunningGateway, client_of, path, version):
    documents = [TEXTS[0], {"text": TEXTS[1]}, LONG]
    answer = gateway.post(path, model="reranker", query=QUERY, documents=documents, top_n=2, return_documents=True)
    expected = client_of("reranker").rerank(QUERY, [*TEXTS, LONG], top_k=2, activation="sigmoid")
    results = answer.json["results"]
    assert [(one["index"], one["document"]["text"]) for one in results] == [
        (one.index, one.document) for one in expected
    ]
    assert [one["relevance_score"] for one in results] == pytest.approx([one.score for one in expected], abs=1e-6)
    assert answer.json["meta"]["api_version"] == {"version": version}
    plain = gateway.post(path, query=QUERY, documents=documents).json
    assert len(plain["results"]) == 3 and "document" not in plain["results"][0]


def test_texts_are_cut_at_the_end_that_is_asked_for(gateway: RunningGateway, client_of):
    text = f"{LONG} {QUERY}"
    expected = {
        "END": client_of("bert").encode([text]),
        "START": client_of("bert").encode([text], truncation_side="left"),
    }
    assert np.abs(expected["END"] - expected["START"]).max() > 1e-3
    for end, vectors in expected.items():
        answer = gateway.post("/v2/embed", model="bert", texts=[text], truncate=end)
        same(np.array(answer.json["embeddings"]["float"], np.float32), vectors)
        (one,) = gateway.post("/v1/embeddings", input=text, truncate=end).json["data"]
        same(np.array([one["embedding"]], np.float32), vectors)
    found = gateway.post("/embed", inputs=text, truncation_direction="Left").json
    same(np.array(found, np.float32), expected["START"])
    (one,) = client_of("reranker").rerank(QUERY, [text], truncation_side="left", activation="none")
    (found,) = gateway.post("/v1/ranking", query={"text": QUERY}, passages=[text], truncate="START").json["rankings"]
    assert found["logit"] == pytest.approx(one.score, abs=1e-6)


def test_usage_of_a_ranking_is_of_the_tokens_that_are_computed(gateway: RunningGateway, client_of):
    reranker = client_of("reranker")
    limit = reranker.info().max_seq_len
    counts = [min(count, limit) for count in reranker.count_tokens([(QUERY, text) for text in [*TEXTS, LONG]]).tolist()]
    usage = gateway.post("/v1/rerank", query=QUERY, documents=[*TEXTS, LONG]).json["usage"]
    assert usage["total_tokens"] == sum(counts) and counts[2] == limit


def test_passages_are_ranked_by_logits(gateway: RunningGateway, client_of):
    passages = [{"text": text} for text in TEXTS]
    answer = gateway.post("/v1/ranking", model="reranker", query={"text": QUERY}, passages=passages, truncate="END")
    expected = client_of("reranker").rerank(QUERY, TEXTS, activation="none")
    rankings = answer.json["rankings"]
    assert [one["index"] for one in rankings] == [one.index for one in expected]
    assert [one["logit"] for one in rankings] == pytest.approx([one.score for one in expected], abs=1e-6)


@pytest.mark.parametrize(
    ("path", "fields", "status", "message"),
    [
        ("/v2/embed", {"model": "bert"}, 400, "texts: Field required"),
        ("/v2/embed", {"model": "bert", "texts": []}, 400, "texts is empty"),
        ("/v2/embed", {"model": "bert", "texts": ["a", ""]}, 400, "text 1 is empty"),
        ("/v2/embed", {"model": "bert", "texts": ["a"], "input_type": "image"}, 400, "input_type"),
        (
            "/v2/embed",
            {"model": "bert", "texts": ["a"], "embedding_types": ["float", "int8"], "output_dimension": 64},
            400,
            "of the vectors that model 'bert' gives by itself, with truncate_dim 384: ask for float",
        ),
        ("/v2/embed", {"model": "bert", "texts": ["a"], "embedding_types": []}, 400, "embedding_types"),
        ("/v2/embed", {"model": "bert", "texts": ["a"], "output_dimension": 400}, 400, "bert takes 1 to 384"),
        ("/v2/embed", {"model": "bert", "texts": ["a"], "truncate": "MIDDLE"}, 400, "'NONE', 'START' or 'END'"),
        ("/v2/embed", {"model": "bert", "texts": [LONG], "truncate": "NONE"}, 400, "text 0"),
        ("/v2/embed", {"model": "none", "texts": ["a"]}, 404, "there: bert"),
        ("/v2/rerank", {"query": "a", "documents": ["a"] * 2049}, 413, "documents has 2049 texts"),
        ("/v2/rerank", {"query": "a", "documents": [{"title": "a"}]}, 400, "documents.0: must be a text"),
        ("/rerank", {"query": "a", "documents": []}, 400, "documents is empty"),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "model": "bert"}, 400, "gives vectors"),
    ],
)
def test_what_is_wrong_is_a_message(gateway: RunningGateway, path, fields, status, message):
    answer = gateway.post(path, **fields)
    assert answer.status == status and message in answer.json["message"], answer.body


def test_what_is_wrong_with_passages_is_said_in_openais_form(gateway: RunningGateway):
    answer = gateway.post("/v1/ranking", query={"text": "a"}, passages=["a"], truncate="MIDDLE")
    assert answer.status == 400 and answer.json["error"]["param"] == "truncate"
