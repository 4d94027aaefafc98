"""Cohere's embed and rerank, the latter also as Jina has it."""

from __future__ import annotations

import uuid
from typing import Literal

from pydantic import Field
from starlette.responses import Response

from client_sdk.gateway.answers import base64_of, json_answer
from client_sdk.gateway.failures import STATUSES, Failure
from client_sdk.gateway.families import Family, Kind
from client_sdk.gateway.protocols.options import (
    Truncate,
    VectorType,
    checked_dimension,
    truncation,
    typed_vectors,
)
from client_sdk.gateway.protocols.protocol import Body, Call, Protocol
from client_sdk.gateway.protocols.scores import ranked
from client_sdk.gateway.protocols.texts import Documents, OneText, Texts

_INPUT_TYPES = {"search_query": "query", "search_document": "document"}


def form(failure: Failure) -> Response:
    """A `message`."""
    return json_answer({"id": str(uuid.uuid4()), "message": failure.message}, STATUSES[failure.reason], failure.headers)


cohere = Protocol("Cohere", form)


class EmbedRequest(Body):
    """What `POST /v2/embed` takes."""

    model: str | None = None
    texts: Texts
    input_type: Literal["search_query", "search_document", "classification", "clustering"] | None = None
    embedding_types: list[VectorType | Literal["base64"]] = Field(["float"], min_length=1, max_length=6, fail_fast=True)
    output_dimension: int | None = Field(None, ge=1)
    truncate: Truncate = "END"


@cohere.post("/v2/embed", body=EmbedRequest)
async def embed(call: Call, body: EmbedRequest) -> Response:
    """Texts to vectors, of one type or several."""
    call.gateway.limits.check_texts(body.texts, "texts")
    target = await call.find(body.model, Kind.VECTORS)
    options = {
        "truncate_dim": checked_dimension(body.output_dimension, target.family, "output_dimension"),
        **truncation(body.truncate),
        **_prompt(body.input_type, target.family),
    }
    types: list[VectorType] = ["float" if kind == "base64" else kind for kind in body.embedding_types]
    found = zip(body.embedding_types, await typed_vectors(target, body.texts, types, options), strict=True)
    embeddings = {kind: list(map(base64_of, rows) if kind == "base64" else rows) for kind, rows in found}
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": target.usage.tokens}}
    return json_answer(
        {
            "id": str(uuid.uuid4()),
            "embeddings": embeddings,
            "texts": body.texts,
            "meta": meta,
            "response_type": "embeddings_by_type",
        }
    )


def _prompt(input_type: str | None, family: Family) -> dict[str, str]:
    """The options that choose the prompt; one that is called as the input type, if the family has it."""
    if input_type in _INPUT_TYPES:
        return {"input_type": _INPUT_TYPES[input_type]}
    return {"prompt_name": input_type} if input_type in family.info.prompts else {}


class RerankRequest(Body):
    """What `POST /v2/rerank` and `POST /v1/rerank` take."""

    model: str | None = None
    query: OneText
    documents: Documents
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False


@cohere.post("/v2/rerank", "/v1/rerank", body=RerankRequest)
async def rerank(call: Call, body: RerankRequest) -> Response:
    """Documents by how well they answer a query, best first, with scores from 0 to 1."""
    target, found = await ranked(
        call, body.model, body.query, body.documents, "documents", {"activation": "sigmoid"}, body.top_n
    )
    results = [
        {
            "index": one.index,
            "relevance_score": one.score,
            **({"document": {"text": one.document}} if body.return_documents else {}),
        }
        for one in found
    ]
    version = "2" if call.request.scope["path"].startswith("/v2") else "1"
    tokens = target.usage.tokens
    return json_answer(
        {
            "id": str(uuid.uuid4()),
            "model": body.model or target.family.name,
            "results": results,
            "meta": {"api_version": {"version": version}, "billed_units": {"search_units": 1}},
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )
