"""The application where no server is there."""

import asyncio
import gc
import re
from types import SimpleNamespace

import pytest
from fastapi.routing import APIRoute
from pydantic import ValidationError

from client_sdk.gateway import shortcut
from client_sdk.gateway.app import PROTOCOLS
from client_sdk.gateway.failures import Failure
from client_sdk.gateway.families import Families, Kind, Target
from client_sdk.gateway.protocols.cohere import EmbedRequest, RerankRequest
from client_sdk.gateway.protocols.nim import RankingRequest
from client_sdk.gateway.protocols.openai import EmbeddingsRequest
from client_sdk.gateway.protocols.tei import PredictRequest, SimilarityRequest, TeiRerankRequest
from tests.support.asgi import open_app, post, request


async def test_a_gateway_lives_and_is_not_ready():
    async with open_app() as app:
        assert (await request(app, "GET", "/health/live")).status == 200
        answer = await request(app, "GET", "/health/ready")
        assert answer.status == 503 and answer.headers["retry-after"] == "1"
        assert "127.0.0.1" not in str(answer.json)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/none", 404),
        ("DELETE", "/v1/embeddings", 405),
        ("POST", "/v1/embeddings/", 404),
        ("GET", "/info/", 404),
    ],
)
async def test_what_there_is_not_is_said_in_json(method, path, status):
    async with open_app() as app:
        answer = await request(app, method, path)
        assert answer.status == status
        assert answer.json["error"]["message"] == f"there is no {method} {path}; GET /openapi.json lists all"


@pytest.mark.parametrize(
    ("path", "allowed"), [("/", "GET, HEAD, POST"), ("/v1/embeddings", "POST"), ("/page/tokens", "POST")]
)
async def test_another_method_is_told_those_that_there_are(path, allowed):
    async with open_app() as app:
        answer = await request(app, "OPTIONS", path)
        assert (answer.status, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/", "/health/live", "/health", "/v1/models", "/v1/models/bert", "/metrics"])
async def test_who_asks_for_the_head_alone_is_told_the_status(path):
    async with open_app() as app:
        assert (await request(app, "HEAD", path)).status == (await request(app, "GET", path)).status


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'"text"', b"\xff", b'{"input": "\\ud800"}', b"[" * 100_000, b"{}"]
)
async def test_a_body_that_is_no_request_is_400(body):
    async with open_app() as app:
        assert (await request(app, "POST", "/v1/embeddings", body)).status == 400


async def test_every_route_has_a_summary_every_body_a_schema_and_every_answer_a_meaning():
    async with open_app() as app:
        page = (await request(app, "GET", "/openapi.json")).json
    assert {"/v1/embeddings", "/embeddings", "/v1/models", "/v1/models/{model}", "/health/live"} <= set(page["paths"])
    for path, operations in page["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert [parameter["name"] for parameter in operation.get("parameters", [])] == re.findall(r"{(.*?)}", path)
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                for one in schema.get("anyOf", [schema]):
                    assert one["$ref"].removeprefix("#/components/schemas/") in page["components"]["schemas"]
                assert {"200", "401", "408", "413", "429"} <= set(operation["responses"])
            assert all(answer["description"] for answer in operation["responses"].values())
    statuses = {
        path: set(operations.get("post", {}).get("responses", {})) for path, operations in page["paths"].items()
    }
    assert "501" not in set.union(*statuses.values())
    assert {"400", "422"} <= statuses["/rerank"] and {"400", "422"} & statuses["/embed"] == {"422"}
    assert set(page["paths"]["/health"]["get"]["responses"]["200"]) == {"description"}
    assert [*page["paths"]["/metrics"]["get"]["responses"]["200"]["content"]] == ["text/plain"]
    assert set(page["paths"]["/.well-known/live"]["get"]["responses"]) == {"204"}
    bodies = {body for protocol in PROTOCOLS for body in protocol.bodies}
    assert len({body.__name__ for body in bodies}) == len(bodies)


@pytest.mark.parametrize("body", [b"{", b'{"input": "text"}'])
async def test_a_request_takes_the_shortcut_and_is_answered_and_counted_as_by_the_long_way(monkeypatch, body):
    async def asked():
        async with open_app(timeout=1) as app:
            answer = await request(app, "POST", "/v1/embeddings", body)
            counted = (await request(app, "GET", "/metrics")).body.decode()
            return answer, re.findall(r"bert_gateway_requests_total{.*", counted)

    taken, handle = [], APIRoute.handle
    monkeypatch.setattr(APIRoute, "handle", lambda self, *of: taken.append(self.path) or handle(self, *of))
    short = await asked()
    assert not taken
    monkeypatch.setattr(shortcut, "_TRACED", "type")  # which every request has
    assert await asked() == short
    assert taken == ["/v1/embeddings", "/metrics"]


async def test_texts_of_a_list_are_counted_before_a_server_is_asked():
    async with open_app(max_texts=2) as app:
        answer = await post(app, "/v1/embeddings", input=["text"] * 3)
    assert answer.status == 413 and answer.json["error"]["param"] == "input"


ASKED = [
    ("/v1/embeddings", {"input": "text"}),
    ("/v1/ranking", {"query": "text", "passages": ["text"]}),
    ("/v2/embed", {"texts": ["text"]}),
    ("/v2/rerank", {"query": "text", "documents": ["text"]}),
    ("/rerank", {"query": "text", "texts": ["text"]}),
    ("/rerank", {"query": "text", "documents": ["text"]}),
    ("/embed", {"inputs": "text"}),
    ("/", {"inputs": "text"}),
    ("/predict", {"inputs": "text"}),
    ("/encode", {"texts": ["text"]}),
    ("/vectors", {"text": "text"}),
]


@pytest.mark.parametrize(("path", "fields"), ASKED)
async def test_without_a_server_each_protocol_says_503_in_its_own_form(path, fields):
    async with open_app() as app:
        answer = await post(app, path, **fields)
    assert answer.status == 503 and answer.headers["retry-after"] == "1"
    words = "the server cannot be reached; try again later"
    error = answer.json.get("error", answer.json.get("message"))
    assert words in (error, error["message"] if isinstance(error, dict) else None)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        *ASKED,
        ("/pooling", {"input": "text"}),
        ("/v1/multi-vector", {"input": "text"}),
        ("/embed_sparse", {"inputs": "text"}),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
        ("/tokenize", {"inputs": "text"}),
        ("/decode", {"ids": [1]}),
        ("/page/tokens", {"inputs": "text"}),
    ],
)
async def test_a_field_that_is_null_is_as_one_that_is_not_there(path, fields):
    others = {name for protocol in PROTOCOLS for body in protocol.bodies for name in body.model_fields}
    async with open_app() as app:
        answer = await post(app, path, **{**dict.fromkeys(others), **fields})
        assert answer.status == 503  # it was understood, and nobody answers it
        (name, *_) = fields
        assert (await post(app, path, **{**fields, name: None})).status in (400, 422)


async def test_an_error_is_in_the_form_of_the_protocol_that_was_meant():
    async with open_app() as app:
        assert [*(await post(app, "/rerank", query="a", texts=[1])).json] == ["error", "error_type"]
        assert [*(await post(app, "/rerank", query="a", documents=[1])).json] == ["id", "message"]
        assert [*(await post(app, "/encode", texts=[1])).json] == ["error", "status"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (EmbedRequest, {"texts": [0] * 1000}),
        (EmbedRequest, {"texts": ["text"], "embedding_types": ["int4"] * 6}),
        (RerankRequest, {"query": "text", "documents": [{}] * 1000}),
        (RankingRequest, {"query": "text", "passages": [0] * 1000}),
        (TeiRerankRequest, {"query": "text", "texts": [0] * 1000}),
        (SimilarityRequest, {"inputs": {"source_sentence": "text", "sentences": [0] * 1000}}),
        (PredictRequest, {"inputs": [[]] * 1000}),
        (EmbeddingsRequest, {"input": [None] * 1000}),
    ],
)
def test_of_a_list_that_is_all_wrong_one_message_is_made(body, fields):
    with pytest.raises(ValidationError) as caught:
        body.model_validate(fields)
    assert caught.value.error_count() <= 2  # of one value that might be of two types


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/embeddings", '"input": "text"'),
        ("/", '"inputs": "text"'),
        ("/rerank", '"query": "text", "texts": ["text"]'),
        ("/rerank", '"query": "text", "documents": ["text"]'),
        ("/v1/embeddings", '"input": 1'),
    ],
)
async def test_of_a_body_only_what_is_asked_for_is_kept(monkeypatch, path, fields):
    counts = []

    async def find(self, model, kind):
        counts.append(len(gc.get_objects()))
        raise Failure("missing", "there is none")

    monkeypatch.setattr(Families, "find", find)
    body = f'{{{fields}, "more": [{",".join(["[[]]"] * 50_000)}]}}'.encode()
    async with open_app() as app:
        before = len(gc.get_objects())
        gc.disable()  # what is in a cycle would be kept until it looks
        try:
            answer = await request(app, "POST", path, body)
            counts.append(len(gc.get_objects()))
        finally:
            gc.enable()
    assert answer.status in (400, 404)
    assert max(counts) - before < 20_000


async def test_who_asks_for_its_health_at_once_has_one_text_answered(monkeypatch):
    asked, go = [], asyncio.Event()

    async def first(self, kind=None):
        return SimpleNamespace(name="bert", kinds=(Kind.VECTORS,), info=SimpleNamespace(dimension=1))

    async def answer(self, kind, texts, options):
        asked.append(texts)
        await go.wait()

    monkeypatch.setattr(Families, "first", first)
    monkeypatch.setattr(Target, "answer", answer)
    async with open_app() as app:
        waiting = [asyncio.ensure_future(request(app, "GET", path)) for path in ["/health/ready", "/ping"] * 10]
        while not asked:
            await asyncio.sleep(0)
        waiting.pop().cancel()
        go.set()
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {200} and len(asked) == 1
        assert (await request(app, "GET", "/health")).status == 200 and len(asked) == 2


async def test_an_id_that_cannot_be_sent_back_is_refused():
    async with open_app() as app:
        answer = await request(app, "POST", "/encode", b'{"texts": ["text"], "id": ' + b"[" * 300 + b"]" * 300 + b"}")
        assert (answer.status, answer.json["error"]) == (400, "id is nested too deep to be sent back")
        answer = await post(app, "/encode", texts=["text"], id="a" * 70_000)
        assert (answer.status, answer.json["error"]) == (400, "id has 70004 bytes; it may have 65536")
