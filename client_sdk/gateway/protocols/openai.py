"""OpenAI's embeddings, as far as a server of one's own has them, and what NVIDIA NIM adds to a request."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response

from client_sdk._errors import InvalidArgument
from client_sdk.gateway.answers import base64_of, json_answer
from client_sdk.gateway.failures import STATUSES, Failure, Reason
from client_sdk.gateway.families import Family, Kind
from client_sdk.gateway.protocols.options import (
    Truncate,
    VectorType,
    checked_dimension,
    truncation,
    typed_vectors,
)
from client_sdk.gateway.protocols.protocol import Body, Call, Protocol
from client_sdk.gateway.protocols.texts import TextsOrIds, ids_options

_TYPES: dict[Reason, tuple[str, str | None]] = {
    "denied": ("invalid_request_error", "invalid_api_key"),
    "busy": ("rate_limit_error", "rate_limit_exceeded"),
    "failed": ("server_error", None),
    "unavailable": ("server_error", "service_unavailable"),
    "deadline": ("server_error", "timeout"),
}

_OF_OTHER_IDS = (
    "LangChain's OpenAIEmbeddings sends the ids of OpenAI's own models, and texts with check_embedding_ctx_length=False"
)

_INPUT_TYPES = {"passage": "document", "query": "query"}


def form(failure: Failure) -> Response:
    """An object `error`."""
    kind, code = _TYPES.get(failure.reason, ("invalid_request_error", None))
    if failure.reason == "missing" and failure.param == "model":
        code = "model_not_found"
    error = {"message": failure.message, "type": kind, "param": failure.param, "code": code}
    return json_answer({"error": error}, STATUSES[failure.reason], failure.headers)


openai = Protocol("OpenAI", form)


class EmbeddingsRequest(Body):
    """What `POST /v1/embeddings` takes: OpenAI's fields, and behind them those of NVIDIA NIM."""

    model: str | None = Field(None, description="NAME, NAME:VERSION, NAME-query or NAME-passage")
    input: TextsOrIds
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    input_type: Literal["query", "passage"] | None = None
    truncate: Truncate = "END"
    embedding_type: VectorType = "float"


@openai.post("/v1/embeddings", "/embeddings", body=EmbeddingsRequest)
async def embeddings(call: Call, body: EmbeddingsRequest) -> Response:
    """Texts, or token ids of the model's own tokenizer, to vectors."""
    call.gateway.limits.check_texts(body.input, "input")
    target = await call.find(body.model, Kind.VECTORS)
    options = {
        "truncate_dim": checked_dimension(body.dimensions, target.family, "dimensions"),
        **truncation(body.truncate),
        "input_type": _INPUT_TYPES.get(body.input_type or ""),
        **ids_options(body.input),
    }
    try:
        (vectors,) = await typed_vectors(target, body.input, [body.embedding_type], options)
    except InvalidArgument as error:
        if isinstance(body.input[0], str):
            raise
        raise Failure("invalid", f"{error}; {_OF_OTHER_IDS}", "input") from None
    rows: Any = vectors if body.encoding_format == "float" else map(base64_of, vectors)
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
    tokens = target.usage.tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_answer({"object": "list", "data": data, "model": body.model or target.family.name, "usage": usage})


@openai.get("/v1/models")
async def models(call: Call) -> Response:
    """What is served."""
    families = await call.gateway.families.all()
    return json_answer({"object": "list", "data": [_model(family, family.name) for family in families]})


@openai.get("/v1/models/{model:path}")
async def model(call: Call) -> Response:
    """One that is served, by any name that a request may give it."""
    name = call.request.path_params["model"]
    return json_answer(_model((await call.gateway.families.find(name, None)).family, name))


def _model(family: Family, name: str) -> dict[str, Any]:
    info = family.info
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "bert-on-triton",
        "gives": [kind.value for kind in family.kinds],
        "dimensions": info.dimension or None,
        "max_model_len": info.max_seq_len,
        "versions": info.versions,
        "prompts": sorted(info.prompts),
        "labels": info.labels,
        "ready": family.is_ready,
    }
