"""What Weaviate asks of its text2vec-transformers container."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from client_sdk._call.kinds import VECTORS
from client_sdk.gateway.answers import json_answer
from client_sdk.gateway.failures import STATUSES, Failure
from client_sdk.gateway.families import Kind
from client_sdk.gateway.protocols.protocol import Body, Call, Protocol
from client_sdk.gateway.protocols.texts import OneText

_TASKS = {"query": "query", "passage": "document"}


def form(failure: Failure) -> Response:
    """`error`."""
    return json_answer({"error": failure.message}, STATUSES[failure.reason], failure.headers)


weaviate = Protocol("Weaviate", form)


class VectorsConfig(Body):
    """Of a request: `task_type` query or passage chooses the prompt."""

    task_type: str | None = None


class VectorsRequest(Body):
    """What `POST /vectors` takes; `model` is this gateway's own."""

    text: OneText
    config: VectorsConfig | None = None
    model: str | None = None


@weaviate.post("/vectors", body=VectorsRequest)
async def vectors(call: Call, body: VectorsRequest) -> Response:
    """A text to a vector."""
    target = await call.find(body.model, Kind.VECTORS)
    task = None if body.config is None else body.config.task_type
    (vector,) = await target.answer(VECTORS, [body.text], {"input_type": _TASKS.get(task or "")})
    return json_answer({"text": body.text, "vector": vector, "dim": len(vector)})


@weaviate.get("/meta")
async def meta(call: Call) -> Response:
    """What the model is."""
    family = await call.gateway.families.first(Kind.VECTORS)
    info = family.info
    found: dict[str, Any] = {
        "model": family.name,
        "hidden_size": info.dimension,
        "max_position_embeddings": info.max_seq_len,
        "pooling": info.pooling,
        "identity": info.identity,
    }
    return json_answer(found)


@weaviate.get("/.well-known/live", is_open=True, fails=(), status=204, media=None)
async def live(call: Call) -> Response:
    """The gateway lives."""
    return Response(status_code=204)


@weaviate.get("/.well-known/ready", is_open=True, status=204, media=None)
async def ready(call: Call) -> Response:
    """The server has answered one real text, just now."""
    await call.gateway.check(Kind.VECTORS)
    return Response(status_code=204)
