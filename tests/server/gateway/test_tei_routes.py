"""Text Embeddings Inference's routes, on a real server: what they answer is what the client is answered."""

import base64

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.conftest import LABELS
from tests.support.servers.gateways import RunningGateway, same

TEXTS = ["First do it", "then do it right", "a much longer text " * 200]
QUERY = "the quick fox"


def array(answer):
    assert answer.status == 200, answer.body
    return np.array(answer.json, np.float32)


@pytest.mark.parametrize("route", ["/tokenize", "/page/tokens"])
def test_tokens_are_those_of_the_familys_own_tokenizer(gateway: RunningGateway, gateway_repository, client_of, route):
    tokenizer = Tokenizer.from_file(str(gateway_repository / "bert_tokenizer" / "1" / "tokenizer.json"))
    limit = client_of("bert").info().max_seq_len
    tokenizer.enable_truncation(limit)
    found = gateway.post(route, inputs=TEXTS, model="bert").json
    if route == "/page/tokens":
        assert [row["count"] for row in found] == client_of("bert").count_tokens(TEXTS).tolist()
        found = [row["tokens"] for row in found]
    assert len(found[2]) == limit
    for tokens, expected in zip(found, tokenizer.encode_batch(TEXTS), strict=True):
        assert [token["id"] for token in tokens] == expected.ids
        assert [token["text"] for token in tokens] == expected.tokens
        assert [int(token["special"]) for token in tokens] == expected.special_tokens_mask


def test_tokens_without_the_special_ones_around_a_text(gateway: RunningGateway, gateway_repository):
    tokenizer = Tokenizer.from_file(str(gateway_repository / "bert_tokenizer" / "1" / "tokenizer.json"))
    texts = ["First do it", "one [SEP] other [MASK]"]  # of which those that a text has itself stay
    found = gateway.post("/tokenize", inputs=texts, model="bert", add_special_tokens=False).json
    expected = tokenizer.encode_batch(texts, add_special_tokens=False)
    assert [[token["text"] for token in tokens] for tokens in found] == [row.tokens for row in expected]
    assert not any(token["special"] for tokens in found for token in tokens)


@pytest.mark.parametrize("options", [{}, {"skip_special_tokens": True}, {"skip_special_tokens": False}])
def test_texts_of_ids_are_those_of_the_familys_own_tokenizer(gateway: RunningGateway, gateway_repository, options):
    tokenizer = Tokenizer.from_file(str(gateway_repository / "bert_tokenizer" / "1" / "tokenizer.json"))
    ids = [row.ids for row in tokenizer.encode_batch([*TEXTS[:2], "Don't stop: naïve 中文, unaffable [MASK]s"])]
    rows = [*ids, [101, 102], [0], [30521], *ids * 30]  # more than one request of the server has
    expected = tokenizer.decode_batch(rows, options.get("skip_special_tokens", True))
    assert expected[0] in ("first do it", "[CLS] first do it [SEP]")
    assert gateway.post("/decode", ids=rows, **options).json == expected
    assert gateway.post("/decode", ids=ids[0], model="bert", **options).json == expected[:1]


def test_texts_of_ids_of_every_kind_of_family(gateway: RunningGateway, gateway_repository):
    for family in ("small", "reranker", "splade", "colbert"):
        tokenizer = Tokenizer.from_file(str(gateway_repository / f"{family}_tokenizer" / "1" / "tokenizer.json"))
        ids = tokenizer.encode(QUERY).ids
        assert gateway.post("/decode", ids=ids, model=family).json == [tokenizer.decode(ids)]


@pytest.mark.parametrize("path", ["/embed", "/"])
def test_vectors_are_those_of_the_client(gateway: RunningGateway, client_of, path):
    bert = client_of("bert")
    same(array(gateway.post(path, inputs=TEXTS)), bert.encode(TEXTS))
    same(array(gateway.post(path, inputs=TEXTS[0])), bert.encode(TEXTS[:1]))


def test_options_are_the_clients(gateway: RunningGateway, client_of):
    found = array(gateway.post("/embed", inputs=TEXTS, normalize=False, dimensions=10))
    same(found, client_of("bert").encode(TEXTS, normalize=False, truncate_dim=10))
    found = array(gateway.post("/embed", inputs=[QUERY], model="small", prompt_name="query"))
    same(found, client_of("small").encode([QUERY], prompt_name="query", normalize=True))
    found = gateway.post("/embed", inputs=TEXTS, encoding_format="base64").json
    expected = client_of("bert").encode(TEXTS)
    same([np.frombuffer(base64.b64decode(row), "<f4") for row in found], expected)


def test_vectors_of_tokens(gateway: RunningGateway, client_of):
    found = gateway.post("/embed_all", inputs=TEXTS[:2])
    assert found.status == 200
    for rows, item in zip(found.json, client_of("bert").encode_tokens(TEXTS[:2]), strict=True):
        np.testing.assert_allclose(rows, item.vectors, rtol=0, atol=1e-6)


def test_token_ids_are_the_texts(gateway: RunningGateway, client_of):
    ids = [[token["id"] for token in row] for row in gateway.post("/tokenize", inputs=TEXTS[:2], model="bert").json]
    np.testing.assert_allclose(
        array(gateway.post("/embed", inputs=ids)), client_of("bert").encode(TEXTS[:2]), atol=1e-6
    )
    found = gateway.post("/embed_all", inputs=ids[0]).json
    np.testing.assert_allclose(found[0], client_of("bert").encode_tokens(TEXTS[0]).vectors, rtol=0, atol=1e-6)
    ids = [[token["id"] for token in row] for row in gateway.post("/tokenize", inputs=[QUERY], model="splade").json]
    assert gateway.post("/embed_sparse", inputs=ids).json == gateway.post("/embed_sparse", inputs=[QUERY]).json


def test_vectors_of_more_tokens_than_an_answer_may_have_are_refused_before_they_are_made(gateway: RunningGateway):
    answer = gateway.post("/embed_all", inputs=["a long text " * 100] * 200)
    assert answer.status == 413 and "send fewer texts" in answer.json["error"]


def test_sparse_vectors(gateway: RunningGateway, client_of):
    found = gateway.post("/embed_sparse", inputs=[QUERY, "hello"])
    assert found.status == 200
    for words, vector in zip(found.json, client_of("splade").encode_sparse([QUERY, "hello"]), strict=True):
        assert [word["index"] for word in words] == sorted(vector.indices.tolist())
        weights = dict(zip(vector.indices.tolist(), vector.weights, strict=True))
        assert all(word["value"] == pytest.approx(weights[word["index"]], abs=1e-6) for word in words)


@pytest.mark.parametrize("path", ["/similarity", "/"])
def test_similarity(gateway: RunningGateway, client_of, path):
    bert = client_of("bert")
    found = array(gateway.post(path, inputs={"source_sentence": TEXTS[0], "sentences": TEXTS}))
    vectors = bert.encode([TEXTS[0], *TEXTS])
    np.testing.assert_allclose(found, bert.similarity(vectors[:1], vectors[1:])[0], rtol=0, atol=1e-6)


def test_similarity_by_a_prompt(gateway: RunningGateway, client_of):
    small, texts = client_of("small"), [QUERY, "hello", "the lazy dog"]
    for parameters, options in (
        ({}, {}),
        ({"prompt_name": "query"}, {"prompt_name": "query"}),
        ({"prompt_name": None, "truncate": None}, {}),
    ):
        inputs = {"source_sentence": texts[0], "sentences": texts[1:]}
        found = array(gateway.post("/similarity", inputs=inputs, parameters=parameters, model="small"))
        vectors = small.encode(texts, **options)
        np.testing.assert_allclose(found, small.similarity(vectors[:1], vectors[1:])[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("raw", "activation"), [({}, "sigmoid"), ({"raw_scores": True}, "none")])
def test_texts_are_ranked(gateway: RunningGateway, client_of, raw, activation):
    found = gateway.post("/rerank", query=QUERY, texts=TEXTS[:2], return_text=True, **raw).json
    expected = client_of("reranker").rerank(QUERY, TEXTS[:2], activation=activation)
    assert [(one["index"], one["text"]) for one in found] == [(one.index, one.document) for one in expected]
    assert [one["score"] for one in found] == pytest.approx([one.score for one in expected], abs=1e-6)
    found = gateway.post("/rerank", query=QUERY, texts=TEXTS[:1], **raw).json
    (one,) = client_of("reranker").rerank(QUERY, TEXTS[:1], activation=activation)
    assert found == [{"index": 0, "score": one.score}]


@pytest.mark.parametrize(
    ("inputs", "texts"),
    [
        (QUERY, [QUERY]),
        ([QUERY], [QUERY]),
        ([QUERY, "hello"], [(QUERY, "hello")]),
        ([[QUERY], ["hello"]], [QUERY, "hello"]),
        ([[QUERY, "hello"], ["hello"]], [(QUERY, "hello"), "hello"]),
    ],
)
def test_labels_are_predicted(gateway: RunningGateway, client_of, inputs, texts):
    answer = gateway.post("/predict", model="sentiment", inputs=inputs)
    labels = client_of("sentiment").classify(texts)
    assert {label.name for label in labels[0]} == {*LABELS}
    is_batch = isinstance(inputs, list) and isinstance(inputs[0], list)
    for found, row in zip(answer.json if is_batch else [answer.json], labels, strict=True):
        assert [one["label"] for one in found] == [one.name for one in row]
        assert [one["score"] for one in found] == pytest.approx([one.score for one in row], abs=1e-6)


@pytest.mark.parametrize(
    ("path", "fields", "status", "kind", "message"),
    [
        ("/embed", {}, 422, "validation", "inputs: Field required"),
        ("/embed", {"inputs": [1, 2]}, 422, "validation", "its token ids do not begin with [101] and end with [102]"),
        ("/embed", {"inputs": [101, 102], "prompt_name": "query"}, 422, "validation", "without a prompt"),
        ("/decode", {"ids": [101, 102], "model": "bert-query"}, 422, "validation", "without a prompt"),
        ("/tokenize", {"inputs": [1, 2]}, 422, "validation", "inputs: text 0 is not a string"),
        ("/embed", {"inputs": "a", "truncation_direction": "up"}, 422, "validation", "'left' or 'right'"),
        ("/embed", {"inputs": TEXTS, "truncate": False}, 422, "validation", "text 2"),
        ("/embed", {"inputs": "a", "prompt_name": "nope"}, 422, "validation", "prompt_name"),
        ("/embed", {"inputs": ["a"] * 2049}, 413, "validation", "a request may have 2048"),
        ("/embed", {"inputs": "a", "model": "none"}, 404, "validation", "there: bert"),
        ("/embed", {"inputs": "a", "model": "splade"}, 422, "validation", "gives sparse vectors (/embed_sparse)"),
        ("/embed_sparse", {"inputs": "a", "model": "bert"}, 422, "validation", "gives vectors"),
        ("/", {"inputs": {"sentences": []}}, 422, "validation", "inputs.source_sentence: Field required"),
        (
            "/similarity",
            {"inputs": {"source_sentence": " ", "sentences": ["a"]}},
            422,
            "validation",
            "inputs.source_sentence is blank",
        ),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["a", ""]}}, 422, "validation", "text 1 is"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 422, "validation", "sentences is empty"),
        ("/rerank", {"query": "a"}, 422, "validation", "texts: Field required"),
        ("/rerank", {"query": " ", "texts": ["a"]}, 422, "validation", "query is blank"),
        (
            "/rerank",
            {"query": "a", "texts": ["a"], "model": "sentiment"},
            422,
            "validation",
            "gives scores of labels (/predict), not one score",
        ),
        ("/predict", {"inputs": ["a", "b", "c"], "model": "sentiment"}, 422, "validation", "[[text], [text]]"),
        ("/predict", {"inputs": [["a"], "b"], "model": "sentiment"}, 422, "validation", "a pair [text, text]"),
        ("/predict", {"inputs": "a"}, 404, "validation", "more than one, gives scores of labels"),
        ("/decode", {}, 422, "validation", "ids: Field required"),
        ("/decode", {"ids": []}, 422, "validation", "ids: must be a list of token ids, or a list of such lists"),
        ("/decode", {"ids": "101"}, 422, "validation", "ids: must be a list of token ids, or a list of such lists"),
        ("/decode", {"ids": [[101], []]}, 422, "validation", "ids: 1 is not a list of token ids, or is empty"),
        ("/decode", {"ids": [101, "a"]}, 422, "validation", "ids: 0 is not a list of token ids"),
        ("/decode", {"ids": [True]}, 422, "validation", "ids: 0 is not a list of token ids"),
        (
            "/decode",
            {"ids": [[101], [30522]]},
            422,
            "validation",
            "text 1: token id 30522 is not in the vocabulary",
        ),
        ("/decode", {"ids": [-1]}, 422, "validation", "token id -1 is not in the vocabulary"),
        ("/decode", {"ids": [101] * 257}, 422, "validation", "ids 0 has 257 token ids; of a text the model reads 256"),
        ("/decode", {"ids": [1], "skip_special_tokens": "maybe"}, 422, "validation", "skip_special_tokens"),
        ("/decode", {"ids": [[101]] * 2049}, 413, "validation", "a request may have 2048"),
        ("/decode", {"ids": [1], "model": "none"}, 404, "validation", "there: bert"),
    ],
)
def test_what_is_wrong_is_said_in_its_form(gateway: RunningGateway, path, fields, status, kind, message):
    answer = gateway.post(path, **fields)
    assert (answer.status, answer.json["error_type"]) == (status, kind), answer.body
    assert message in answer.json["error"]


def test_it_says_what_the_model_is(gateway: RunningGateway, client_of):
    found = gateway.get("/info").json
    info = client_of("bert").info()
    assert (found["model_id"], found["model_sha"], found["max_input_length"]) == ("bert", info.identity, 256)
    assert found["model_type"] == {"embedding": {"pooling": "mean"}} and found["max_client_batch_size"] == 2048


@pytest.mark.parametrize("path", ["/health", "/ping"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_it_is_healthy(gateway: RunningGateway, method, path):
    assert gateway.send(method, path).status == 200
