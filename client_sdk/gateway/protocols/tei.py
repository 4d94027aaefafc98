"""What Text Embeddings Inference answers, and the rerank that it shares a path with Cohere's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import orjson
from orjson import Fragment
from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from starlette.responses import Response

from client_sdk._call.kinds import TOKEN_VECTORS, VECTORS
from client_sdk._call.scores import labels
from client_sdk._call.sparse import sparse_vectors
from client_sdk._call.texts import Text
from client_sdk._kinds import SPARSE
from client_sdk._similarity import similarity_of
from client_sdk._version import __version__
from client_sdk.gateway.answers import base64_of, json_answer
from client_sdk.gateway.failures import STATUSES, Failure, Reason
from client_sdk.gateway.families import Family, Kind
from client_sdk.gateway.limits import FewWords
from client_sdk.gateway.protocols import cohere
from client_sdk.gateway.protocols.options import checked_dimension
from client_sdk.gateway.protocols.protocol import B, Body, Call, Protocol
from client_sdk.gateway.protocols.scores import ranked
from client_sdk.gateway.protocols.texts import (
    TEXT_SHOWN,
    Ids,
    OneText,
    TextOrTexts,
    Texts,
    TextsOrIds,
    ids_options,
    list_of,
)
from client_sdk.gateway.tokens import texts_of, tokens_of

_TYPES: dict[Reason, str] = {
    "busy": "overloaded",
    "failed": "backend",
    "unavailable": "unhealthy",
    "deadline": "backend",
}
_STATUSES: dict[Reason, int] = {**STATUSES, "invalid": 422, "failed": 424}


def form(failure: Failure) -> Response:
    """`error` and `error_type`."""
    content = {"error": failure.message, "error_type": _TYPES.get(failure.reason, "validation")}
    return json_answer(content, _STATUSES[failure.reason], failure.headers)


tei = Protocol("Text Embeddings Inference", form, _STATUSES)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Direction = Annotated[Literal["left", "right"], BeforeValidator(_lower)]


class _Asked(Body):
    """What its routes have alike; `model` is this gateway's own."""

    model: str | None = None
    truncate: bool | None = None
    truncation_direction: Direction = "right"

    def options(self) -> dict[str, Any]:
        """As the client has them; the right is the checkpoint's own side, which it is for nearly all."""
        return {"truncate": self.truncate, "truncation_side": "left" if self.truncation_direction == "left" else None}


class _Prompted(_Asked):
    """And what those have that encode."""

    prompt_name: str | None = None

    def options(self) -> dict[str, Any]:
        """As the client has them."""
        return {**super().options(), "prompt_name": self.prompt_name}


class TeiEmbedRequest(_Prompted):
    """What `POST /embed` takes."""

    inputs: TextsOrIds
    normalize: bool = True
    dimensions: int | None = Field(None, ge=1)
    encoding_format: Literal["float", "base64"] = "float"


class TeiTokensRequest(_Prompted):
    """What `POST /embed_all` and `POST /embed_sparse` take."""

    inputs: TextsOrIds


class TokenizeRequest(Body):
    """What `POST /tokenize` takes."""

    model: str | None = None
    inputs: TextOrTexts
    add_special_tokens: bool = True
    prompt_name: str | None = None


class DecodeRequest(Body):
    """What `POST /decode` takes."""

    model: str | None = None
    ids: Ids
    skip_special_tokens: bool = True


class Sentences(Body):
    """A sentence, and those that it is compared with."""

    source_sentence: OneText
    sentences: Texts


class SimilarityRequest(Body):
    """What `POST /similarity` takes."""

    model: str | None = None
    inputs: Sentences
    parameters: _Prompted = _Prompted()


class _OneOf(Body):
    """What one of several requests is made of."""

    model_config = ConfigDict(extra="allow")

    @property
    def fields(self) -> dict[str, Any]:
        """All of them."""
        return self.model_extra or {}

    def taken_as(self, body: type[B], call: Call) -> B:
        """The request as this one; the fields, which may be large, are not kept beside it. Raises Failure."""
        asked = call.asked(body, self.fields)
        self.fields.clear()
        return asked


class AnyInputs(_OneOf):
    """What `POST /` takes: what `/embed` or `/similarity` do."""


class TeiRerankRequest(_Asked):
    """What `POST /rerank` takes, if its documents are called `texts`."""

    query: OneText
    texts: Texts
    raw_scores: bool = False
    return_text: bool = False


class AnyRerank(_OneOf):
    """What `POST /rerank` takes: TEI's request, which has `texts`, or Cohere's and Jina's, which has `documents`."""


def _inputs(value: Any) -> Inputs:
    if isinstance(value, str):
        return Inputs([value], is_batch=False)
    is_list = isinstance(value, list) and len(value) > 0
    if is_list and all(isinstance(one, str) for one in value):
        return Inputs([_text(value)], is_batch=False)
    if is_list and all(isinstance(one, list) and all(isinstance(text, str) for text in one) for one in value):
        return Inputs([_text(one) for one in value], is_batch=True)
    raise ValueError("must be a text, a pair [text, text], or a list of [text] and [text, text]")


def _text(texts: Sequence[str]) -> Text:
    if len(texts) == 1:
        return texts[0]
    if len(texts) == 2:
        return texts[0], texts[1]
    raise ValueError(f"{len(texts)} texts are no text or pair; a list of several is [[text], [text]]")


class Inputs(NamedTuple):
    """Texts and pairs, and whether they came as a list of such."""

    texts: list[Text]
    is_batch: bool


_ONE_OR_PAIR_SHOWN = {**list_of(TEXT_SHOWN), "maxItems": 2}
_INPUTS_SHOWN = {"anyOf": [TEXT_SHOWN, _ONE_OR_PAIR_SHOWN, list_of(_ONE_OR_PAIR_SHOWN)]}


class PredictRequest(_Asked):
    """What `POST /predict` takes: a text, a pair as [text, text], or a list of [text] and [text, text]."""

    inputs: Annotated[Inputs, PlainValidator(_inputs), WithJsonSchema(_INPUTS_SHOWN)]
    raw_scores: bool = False


@tei.post("/embed", body=TeiEmbedRequest)
async def embed(call: Call, body: TeiEmbedRequest) -> Response:
    """Texts to vectors."""
    call.gateway.limits.check_texts(body.inputs, "inputs")
    target = await call.find(body.model, Kind.VECTORS)
    dimension = checked_dimension(body.dimensions, target.family, "dimensions")
    options = {"normalize": body.normalize, "truncate_dim": dimension}
    vectors = await target.answer(VECTORS, body.inputs, {**options, **ids_options(body.inputs), **body.options()})
    return json_answer(vectors if body.encoding_format == "float" else [base64_of(row) for row in vectors])


@tei.post("/", body=AnyInputs, shown=(TeiEmbedRequest, SimilarityRequest))
async def either(call: Call, body: AnyInputs) -> Response:
    """As `/similarity` if `inputs` is an object, else as `/embed`."""
    if isinstance(body.fields.get("inputs"), dict):
        return await similarity(call, body.taken_as(SimilarityRequest, call))
    return await embed(call, body.taken_as(TeiEmbedRequest, call))


@tei.post("/embed_all", body=TeiTokensRequest)
async def embed_all(call: Call, body: TeiTokensRequest) -> Response:
    """Texts to a vector for each token, special tokens included."""
    call.gateway.limits.check_texts(body.inputs, "inputs")
    target = await call.find(body.model, Kind.VECTORS)
    call.gateway.limits.check_numbers(body.inputs, target.family.info, "inputs")
    options = {**ids_options(body.inputs), **body.options()}
    found = await target.answer(TOKEN_VECTORS, body.inputs, options)
    return json_answer([item.vectors for item in found])


@tei.post("/embed_sparse", body=TeiTokensRequest)
async def embed_sparse(call: Call, body: TeiTokensRequest) -> Response:
    """Texts to sparse vectors over the vocabulary, its words ascending."""
    call.gateway.limits.check_texts(body.inputs, "inputs")
    target = await call.find(body.model, Kind.SPARSE)
    plain = sparse_vectors(target.family.info.kinds[SPARSE.name], None)
    kind = replace(plain, collector=lambda count: FewWords(plain.collector(count), "inputs"))
    options = {**ids_options(body.inputs), **body.options()}
    found = await target.answer(kind, body.inputs, options)
    rows = []
    for vector in found:
        order = np.argsort(vector.indices)
        words, weights = vector.indices[order].tolist(), vector.weights[order]
        row = [{"index": index, "value": value} for index, value in zip(words, weights, strict=True)]
        rows.append(Fragment(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)))
    return json_answer(rows)


@tei.post("/similarity", body=SimilarityRequest)
async def similarity(call: Call, body: SimilarityRequest) -> Response:
    """How near sentences are to another, as the model means its vectors to be compared."""
    source, sentences = body.inputs.source_sentence, body.inputs.sentences
    call.gateway.limits.check_texts(sentences, "inputs.sentences")
    if not source.strip():
        raise Failure("invalid", "inputs.source_sentence is blank: nothing is near to it", "inputs")
    target = await call.find(body.model, Kind.VECTORS)
    # The sentences first: what is wrong with one is said of its place in the list.
    vectors = await target.answer(VECTORS, [*sentences, source], body.parameters.options())
    return json_answer(similarity_of(vectors[-1:], vectors[:-1], target.family.info.similarity)[0])


@tei.post("/rerank", body=AnyRerank, shown=(TeiRerankRequest, cohere.RerankRequest), other=STATUSES)
async def rerank(call: Call, body: AnyRerank) -> Response:
    """Texts by how well they answer a query, best first: TEI's `texts`, or Cohere's and Jina's `documents`."""
    if "documents" in body.fields:
        call.form = cohere.form
        return await cohere.rerank(call, body.taken_as(cohere.RerankRequest, call))
    asked = body.taken_as(TeiRerankRequest, call)
    options = {"activation": "none" if asked.raw_scores else "sigmoid", **asked.options()}
    _, found = await ranked(call, asked.model, asked.query, asked.texts, "texts", options)
    return json_answer(
        [
            {"index": one.index, "score": one.score, **({"text": one.document} if asked.return_text else {})}
            for one in found
        ]
    )


@tei.post("/predict", body=PredictRequest)
async def predict(call: Call, body: PredictRequest) -> Response:
    """How well each of a classifier's labels fits a text or a pair, best first."""
    call.gateway.limits.check_texts(body.inputs.texts, "inputs")
    target = await call.find(body.model, Kind.SCORES)
    info = target.family.info
    options = {"activation": "none" if body.raw_scores else None, **body.options()}
    kind = labels(info.labels, info.identity or None, None)
    found = await target.answer(kind, body.inputs.texts, options)
    rows = [[{"score": label.score, "label": label.name} for label in of_text] for of_text in found]
    return json_answer(rows if body.inputs.is_batch else rows[0])


@tei.post("/tokenize", body=TokenizeRequest)
async def tokenize(call: Call, body: TokenizeRequest) -> Response:
    """Texts to their tokens, as far as the model reads them; where they stand in a text is not known here."""
    call.gateway.limits.check_texts(body.inputs, "inputs")
    target = await call.find(body.model, None)
    call.gateway.limits.check_tokens(body.inputs, target.family.info, "inputs")
    rows = await tokens_of(target, body.inputs, body.prompt_name)
    shown = [[token for token in row.tokens if body.add_special_tokens or not token.special] for row in rows]
    return json_answer([[{**token._asdict(), "start": None, "stop": None} for token in tokens] for tokens in shown])


@tei.post("/decode", body=DecodeRequest)
async def decode(call: Call, body: DecodeRequest) -> Response:
    """Token ids to the text that the model's tokenizer reads them back as; no more of a text than the model reads."""
    call.gateway.limits.check_texts(body.ids, "ids")
    target = await call.find(body.model, None)
    call.gateway.limits.check_lengths(body.ids, target.family.info, "ids")
    call.gateway.limits.check_tokens(body.ids, target.family.info, "ids")
    return json_answer(await texts_of(target, body.ids, body.skip_special_tokens))


@tei.get("/info")
async def info(call: Call) -> Response:
    """What the model is that answers where none is named."""
    family = await call.gateway.families.first()
    settings = call.gateway.settings
    return json_answer(
        {
            "model_id": family.name,
            "model_sha": family.info.identity or None,
            "model_dtype": "float32",
            "model_type": _model_type(family),
            "max_concurrent_requests": settings.max_concurrency,
            "max_input_length": family.info.max_seq_len,
            "max_client_batch_size": settings.max_texts,
            "auto_truncate": True,
            "version": __version__,
        }
    )


def _model_type(family: Family) -> dict[str, Any]:
    if not family.gives(Kind.SCORES):
        return {"embedding": {"pooling": "splade" if family.info.splade else family.info.pooling}}
    by_id = {str(index): label for index, label in enumerate(family.info.labels)}
    kind = "reranker" if family.gives(Kind.RANKS) else "classifier"
    return {kind: {"id2label": by_id, "label2id": {label: index for index, label in enumerate(family.info.labels)}}}


@tei.get("/health", "/ping", is_open=True, media=None)
async def health(call: Call) -> Response:
    """The server has answered one real text, just now."""
    await call.gateway.check()
    return Response()
