"""Vectors for late interaction, in vLLM's form and in Jina's, on a real server."""

import base64

import numpy as np
import pytest

from tests.support.servers.gateways import RunningGateway

TEXTS = ["hello world", "The quick brown fox", "a"]


def same(found, expected):
    assert [np.shape(one) for one in found] == [one.shape for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.array(one, np.float32), other, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "input_type"), [("colbert", None), ("colbert-query", "query"), ("colbert-passage", "document")]
)
def test_pooling_in_vllms_form(gateway: RunningGateway, client_of, model, input_type):
    answer = gateway.post("/pooling", model=model, input=TEXTS, task="token_embed").json
    expected = client_of("colbert").encode_multi(TEXTS, input_type=input_type)
    assert (answer["object"], answer["model"]) == ("list", model)
    assert [(item["index"], item["object"]) for item in answer["data"]] == [(at, "pooling") for at in range(3)]
    same([item["data"] for item in answer["data"]], expected)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0


def test_one_text_in_base64_bit_for_bit(gateway: RunningGateway, client_of):
    answer = gateway.post("/pooling", input=TEXTS[1], encoding_format="base64").json
    (item,) = answer["data"]
    expected = client_of("colbert").encode_multi(TEXTS[1])
    found = np.frombuffer(base64.b64decode(item["data"]), "<f4").reshape(-1, expected.shape[1])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("fields", "input_type"), [({}, "document"), ({"input_type": "query"}, "query"), ({"dimensions": 16}, "document")]
)
@pytest.mark.parametrize("embedding_type", ["float", "base64"])
def test_vectors_in_jinas_form(gateway: RunningGateway, client_of, fields, input_type, embedding_type):
    answer = gateway.post(
        "/v1/multi-vector", model="colbert", input=TEXTS, embedding_type=embedding_type, **fields
    ).json
    rows = [item["embeddings"] for item in answer["data"]]
    if embedding_type == "base64":
        rows = [[np.frombuffer(base64.b64decode(row), "<f4") for row in text] for text in rows]
    same(rows, client_of("colbert").encode_multi(TEXTS, input_type=input_type))
    assert answer["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(("model", "kept"), [("colbert-query", 32), ("colbert", 66)])
def test_usage_is_of_the_tokens_that_are_kept(gateway: RunningGateway, client_of, model, kept):
    texts = ["hello world", "the quick brown fox " * 50]
    short, long = client_of("colbert").count_tokens(texts)
    assert short < 32 and long > client_of("colbert").info().max_seq_len == 66
    assert gateway.post("/pooling", model=model, input=texts).json["usage"]["total_tokens"] == short + kept


@pytest.mark.parametrize("path", ["/pooling", "/v1/multi-vector"])
@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"model": "bert"}, 400, "gives vectors (/v1/embeddings, /v2/embed, /embed), not vectors for late interaction"),
        ({"model": "colbert", "dimensions": 8}, 400, "dimensions is 8; colbert gives 16"),
        ({"model": "colbert", "input": ["a", " "]}, 400, "text 1 is blank"),
        ({"model": "colbert", "input": [[1, 2]]}, 400, "text 0 is not a string"),
        ({"model": "colbert", "input": []}, 400, "input is empty"),
        ({"model": "none"}, 404, "there is no model 'none'"),
    ],
)
def test_what_is_wrong_is_said(gateway: RunningGateway, path, fields, status, message):
    answer = gateway.post(path, **{"input": "hello", **fields})
    assert answer.status == status and message in answer.json["error"]["message"]


def test_where_vectors_of_another_kind_are_asked_for_the_routes_are_named(gateway: RunningGateway):
    answer = gateway.post("/v1/embeddings", model="colbert", input="hello")
    assert answer.status == 400 and "(/pooling, /v1/multi-vector)" in answer.json["error"]["message"]
