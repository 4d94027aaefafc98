"""NVIDIA NIM's ranking; what it adds to OpenAI's embeddings is in `openai`."""

from __future__ import annotations

from pydantic import Field
from starlette.responses import Response

from client_sdk.gateway.answers import json_answer
from client_sdk.gateway.protocols.openai import form
from client_sdk.gateway.protocols.options import Truncate, truncation
from client_sdk.gateway.protocols.protocol import Body, Call, Protocol
from client_sdk.gateway.protocols.scores import ranked
from client_sdk.gateway.protocols.texts import Document, Documents

nim = Protocol("NVIDIA NIM", form)


class RankingRequest(Body):
    """What `POST /v1/ranking` takes."""

    model: str | None = None
    query: Document
    passages: Documents
    truncate: Truncate = "END"
    top_n: int | None = Field(None, ge=1)


@nim.post("/v1/ranking", body=RankingRequest)
async def ranking(call: Call, body: RankingRequest) -> Response:
    """Passages by how well they answer a query, best first, with their logits."""
    options = {"activation": "none", **truncation(body.truncate)}
    target, found = await ranked(call, body.model, body.query, body.passages, "passages", options, body.top_n)
    tokens = target.usage.tokens
    rankings = [{"index": one.index, "logit": one.score} for one in found]
    return json_answer({"rankings": rankings, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
