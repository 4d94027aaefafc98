"""Vectors of tokens for late interaction (ColBERT): vLLM's pooling of such a model, and Jina's multi-vector."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from starlette.responses import Response

from client_sdk._call.kinds import late_vectors
from client_sdk._kinds import MULTI
from client_sdk.gateway.answers import base64_of, json_answer
from client_sdk.gateway.failures import Failure
from client_sdk.gateway.families import Kind, Target
from client_sdk.gateway.limits import FewNumbers
from client_sdk.gateway.protocols.openai import form
from client_sdk.gateway.protocols.protocol import Body, Call, Protocol
from client_sdk.gateway.protocols.texts import TextOrTexts

late = Protocol("Late interaction", form)

Vectors = list[npt.NDArray[np.float32]]


class PoolingRequest(Body):
    """What `POST /pooling` takes."""

    model: str | None = Field(None, description="NAME, NAME:VERSION, NAME-query or NAME-passage")
    input: TextOrTexts
    task: Literal["token_embed"] | None = None
    dimensions: int | None = Field(None, ge=1)
    encoding_format: Literal["float", "base64"] = "float"


@late.post("/pooling", body=PoolingRequest)
async def pooling(call: Call, body: PoolingRequest) -> Response:
    """Texts to the vectors of their tokens, as vLLM has them; in base64 one behind the other."""
    target, found = await _vectors(call, body.model, body.input, body.dimensions, {})
    data = [
        {"index": index, "object": "pooling", "data": base64_of(rows) if body.encoding_format == "base64" else rows}
        for index, rows in enumerate(found)
    ]
    name = body.model or target.family.name
    made = {"id": f"pool-{uuid.uuid4().hex}", "object": "list", "created": int(time.time()), "model": name}
    return json_answer({**made, "data": data, "usage": _usage(target)})


class MultiVectorRequest(Body):
    """What `POST /v1/multi-vector` takes."""

    model: str | None = None
    input: TextOrTexts
    input_type: Literal["query", "document"] = "document"
    dimensions: int | None = Field(None, ge=1)
    embedding_type: Literal["float", "base64"] = "float"


@late.post("/v1/multi-vector", body=MultiVectorRequest)
async def multi_vector(call: Call, body: MultiVectorRequest) -> Response:
    """Texts to the vectors of their tokens, as Jina has them."""
    target, found = await _vectors(call, body.model, body.input, body.dimensions, {"input_type": body.input_type})
    shown: list[Any] = found if body.embedding_type == "float" else [[*map(base64_of, rows)] for rows in found]
    data = [{"object": "embeddings", "index": index, "embeddings": rows} for index, rows in enumerate(shown)]
    name = body.model or target.family.name
    return json_answer({"object": "list", "model": name, "data": data, "usage": _usage(target)})


async def _vectors(
    call: Call, model: str | None, texts: list[str], dimensions: int | None, options: Mapping[str, Any]
) -> tuple[Target, Vectors]:
    call.gateway.limits.check_texts(texts, "input")
    target = await call.find(model, Kind.MULTI)
    dimension = target.family.info.kinds[MULTI.name]
    if dimensions not in (None, dimension):
        raise Failure("invalid", f"dimensions is {dimensions}; {target.family.name} gives {dimension}", "dimensions")
    plain = late_vectors(dimension, None)
    kind = replace(plain, collector=lambda count: FewNumbers(plain.collector(count), "input"))
    return target, await target.answer(kind, texts, options)


def _usage(target: Target) -> dict[str, int]:
    return {"prompt_tokens": target.usage.tokens, "total_tokens": target.usage.tokens}
