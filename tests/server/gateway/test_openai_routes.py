"""OpenAI's routes, on a real server: vectors are those of the client, bit for bit."""

import base64

import numpy as np
import pytest
from tokenizers import Tokenizer

from client_sdk import Client, LocalServer
from tests.support.patience import wait_for
from tests.support.servers.gateways import RunningGateway, same

TEXTS = ["First do it", "then do it right", "a much longer text " * 200]


@pytest.fixture(scope="module")
def client(gateway_server: LocalServer):
    with Client(gateway_server.grpc_url) as client:
        yield client


def read(answer, dtype="<f4"):
    """The vectors of an answer, in either form."""
    assert answer.status == 200, answer.body
    rows = [item["embedding"] for item in answer.json["data"]]
    assert [item["index"] for item in answer.json["data"]] == list(range(len(rows)))
    if isinstance(rows[0], str):
        return np.stack([np.frombuffer(base64.b64decode(row), dtype) for row in rows])
    return np.array(rows, np.float32 if dtype == "<f4" else dtype)


@pytest.mark.parametrize("encoding_format", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
def test_vectors_are_those_of_the_client(gateway: RunningGateway, client, path, encoding_format):
    found = read(gateway.post(path, model="bert", input=TEXTS, user="somebody", **encoding_format))
    same(found, client.encode(TEXTS))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_a_text_alone_is_a_list_of_one_bit_for_bit(gateway: RunningGateway, client, text, encoding_format):
    answer = gateway.post("/v1/embeddings", model="bert", input=text, encoding_format=encoding_format)
    same(read(answer), client.encode([text]))
    assert answer.json["object"] == "list" and answer.json["model"] == "bert"


@pytest.fixture(scope="module")
def tokenizer(gateway_repository):
    return Tokenizer.from_file(str(gateway_repository / "bert_tokenizer" / "1" / "tokenizer.json"))


def test_token_ids_of_the_models_own_tokenizer_are_the_texts(gateway: RunningGateway, client, tokenizer):
    ids = [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]
    answer = gateway.post("/v1/embeddings", model="bert", input=ids)
    np.testing.assert_allclose(read(answer), client.encode(TEXTS), rtol=0, atol=1e-6)
    assert answer.json["usage"]["prompt_tokens"] == sum(min(256, len(row)) for row in ids)
    np.testing.assert_allclose(read(gateway.post("/v1/embeddings", input=ids[0])), client.encode(TEXTS[:1]), atol=1e-6)


def test_a_list_longer_than_a_request_of_the_server_is_split(gateway: RunningGateway, client, texts):
    many = texts * 4
    np.testing.assert_allclose(read(gateway.post("/v1/embeddings", input=many)), client.encode(many), rtol=0, atol=1e-5)


def test_usage_is_of_the_tokens_that_are_computed(gateway: RunningGateway, client):
    counts = client.count_tokens(TEXTS)
    assert counts[2] > 256
    usage = gateway.post("/v1/embeddings", model="bert", input=TEXTS).json["usage"]
    assert usage == {"prompt_tokens": counts[0] + counts[1] + 256, "total_tokens": counts[0] + counts[1] + 256}


def test_dimensions_are_the_first_numbers_as_the_client_gives_them(gateway: RunningGateway, client):
    found = read(gateway.post("/v1/embeddings", model="bert", input=TEXTS, dimensions=64))
    same(found, client.encode(TEXTS, truncate_dim=64))


@pytest.mark.parametrize("kind", ["int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_smaller_numbers_are_those_of_the_client(gateway: RunningGateway, client, kind, encoding_format):
    expected = client.encode(TEXTS, precision=kind)
    options = {"embedding_type": kind, "encoding_format": encoding_format}
    found = read(gateway.post("/v1/embeddings", model="bert", input=TEXTS, **options), expected.dtype)
    same(found, expected)


@pytest.mark.parametrize(
    ("request_fields", "options"),
    [
        ({"model": "small"}, {}),
        ({"model": "small:1"}, {}),
        ({"model": "small-query"}, {"input_type": "query"}),
        ({"model": "small-passage"}, {"input_type": "document"}),
        ({"model": "small-document"}, {"input_type": "document"}),
        ({"model": "small-query:1"}, {"input_type": "query"}),
        ({"model": "small", "input_type": "query"}, {"input_type": "query"}),
        ({"model": "small", "input_type": "passage"}, {"input_type": "document"}),
    ],
)
def test_a_name_or_an_input_type_says_which_prompt(gateway: RunningGateway, gateway_server, request_fields, options):
    with Client(gateway_server.grpc_url, "small") as small:
        methods = {"query": small.encode_query, "document": small.encode_document, None: small.encode}
        expected = methods[options.get("input_type")](["the quick fox"])
    answer = gateway.post("/v1/embeddings", input=["the quick fox"], **request_fields)
    same(read(answer), expected)
    assert answer.json["model"] == request_fields["model"]


def test_a_text_too_long_is_refused_where_it_may_not_be_cut(gateway: RunningGateway):
    answer = gateway.post("/v1/embeddings", model="bert", input=TEXTS, truncate="NONE")
    assert answer.status == 400 and "text 2" in answer.json["error"]["message"]
    assert gateway.post("/v1/embeddings", model="bert", input=TEXTS[:2], truncate="NONE").status == 200


@pytest.mark.parametrize(
    ("fields", "status", "param", "message"),
    [
        ({"model": "bert"}, 400, "input", "input: Field required"),
        ({"model": "bert", "input": []}, 400, "input", "input is empty"),
        ({"model": "bert", "input": ["a", 1.5]}, 400, "input", "text 1 is not a string"),
        ({"model": "bert", "input": [5451, 656]}, 400, "input", "do not begin with [101] and end with [102]"),
        ({"model": "bert", "input": [[5451, 656]]}, 400, "input", "texts with check_embedding_ctx_length=False"),
        (
            {"model": "bert", "input": [[101, 99999, 102]]},
            400,
            "input",
            "token id 99999 is not in the vocabulary, of 30522",
        ),
        ({"model": "bert", "input": [[101, 7592, 102], "a"]}, 400, "input", "text 1 is not a list of token ids"),
        ({"model": "bert", "input": [101, "a"]}, 400, "input", "text 0 is not a string"),
        (
            {"model": "bert-query", "input": [[101, 7592, 102]]},
            400,
            "input",
            "without a prompt: give the model's name alone, and neither a prompt nor what the texts are; LangChain's",
        ),
        ({"model": "bert", "input": [5451], "input_type": "query"}, 400, "input", "check_embedding_ctx_length=False"),
        ({"model": "bert", "input": ["a", " "]}, 400, None, "text 1 is blank"),
        (
            {"model": "bert", "input": "a", "dimensions": 385},
            400,
            "dimensions",
            "dimensions is 385; bert takes 1 to 384",
        ),
        ({"model": "bert", "input": "a", "dimensions": 0}, 400, "dimensions", "greater than or equal to 1"),
        ({"model": "bert", "input": "a", "encoding_format": "hex"}, 400, "encoding_format", "'float' or 'base64'"),
        ({"model": "bert", "input": "a", "truncate": "MIDDLE"}, 400, "truncate", "'START' or 'END'"),
        (
            {"model": "bert", "input": "a", "embedding_type": "int8", "dimensions": 64},
            400,
            None,
            "precision 'int8' with truncate_dim=64: the ranges that the export has measured are of the vectors that "
            "model 'bert' gives by itself, with truncate_dim 384: ask for float",
        ),
        ({"model": "none", "input": "a"}, 404, "model", "there: bert, colbert, reranker, sentiment, small, splade"),
        ({"model": "bert:7", "input": "a"}, 404, "model", "there is no model 'bert:7'"),
        ({"model": "bert-no-prompt", "input": "a"}, 404, "model", "there is no model"),
        ({"model": "splade", "input": "a"}, 400, "model", "gives sparse vectors (/embed_sparse), not vectors"),
        (
            {"model": "reranker", "input": "a"},
            400,
            "model",
            "gives one score (/rerank, /v1/ranking, /predict), not vectors",
        ),
        ({"model": "bert", "input": ["a"] * 2049}, 413, "input", "2049 texts; a request may have 2048"),
    ],
)
def test_what_is_wrong_is_said_in_openais_form(gateway: RunningGateway, fields, status, param, message):
    answer = gateway.post("/v1/embeddings", **fields)
    error = answer.json["error"]
    assert (answer.status, error["param"]) == (status, param) and message in error["message"]
    assert error["type"] == "invalid_request_error"
    assert error["code"] == ("model_not_found" if status == 404 else None)


def test_models_are_listed(gateway: RunningGateway):
    listed = gateway.get("/v1/models").json
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["bert", "colbert", "reranker", "sentiment", "small", "splade"]
    assert all(model["object"] == "model" and model["ready"] is True for model in listed["data"])
    bert, *_, small, _ = listed["data"]
    assert (bert["dimensions"], bert["max_model_len"], bert["versions"]) == (384, 256, [1])
    assert [model["gives"] for model in listed["data"]] == [
        ["vectors"],
        ["vectors for late interaction"],
        ["one score"],
        ["scores of labels"],
        ["vectors"],
        ["sparse vectors"],
    ]
    assert gateway.get("/v1/models/small").json == small
    for name in ("small:1", "small-query", "small-passage"):
        assert gateway.get(f"/v1/models/{name}").json == small | {"id": name}
    answer = gateway.get("/v1/models/none")
    assert answer.status == 404 and answer.json["error"]["code"] == "model_not_found"


def test_it_is_ready_when_a_text_has_been_answered(gateway: RunningGateway):
    assert gateway.get("/health/live").json == {"status": "live"}
    assert gateway.get("/health/ready").json == {"status": "ready", "model": "bert"}


def test_the_log_says_what_was_asked_and_no_text(gateway: RunningGateway):
    gateway.post("/v1/embeddings", model="small-query", input=["a confidential hello", "the quick"])

    def written():
        lines = [line for line in gateway.log() if line.get("model") == "small" and line["path"] == "/v1/embeddings"]
        return [line for line in lines if line["texts"] == 2]

    line = wait_for(written)[-1]  # it follows its answer
    assert line["status"] == 200 and line["tokens"] > 4
    assert "confidential" not in gateway.output.read_text()
