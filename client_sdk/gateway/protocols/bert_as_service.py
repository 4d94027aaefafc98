"""What bert-as-service answered over HTTP, for callers whose port alone changes."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qs

import orjson
from pydantic import WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from client_sdk._call.kinds import VECTORS
from client_sdk._call.questions import served
from client_sdk._transport.retry import Deadline
from client_sdk._version import __version__
from client_sdk.bert_as_service._arguments import POOLING_NUMBERS, read_texts
from client_sdk.gateway.answers import json_answer
from client_sdk.gateway.failures import STATUSES, Failure
from client_sdk.gateway.families import Family, Kind
from client_sdk.gateway.protocols.protocol import Body, Call, Protocol, read_json
from client_sdk.gateway.protocols.texts import TEXT_SHOWN, list_of

_FORM = "application/x-www-form-urlencoded"
_MAX_ID = 64 << 10  # bytes


def form(failure: Failure) -> Response:
    """`error` and the status."""
    status = STATUSES[failure.reason]
    return json_answer({"error": failure.message, "status": status}, status, failure.headers)


bert_as_service = Protocol("bert-as-service", form)


_TEXTS_SHOWN = {"anyOf": [list_of(TEXT_SHOWN), list_of(list_of(TEXT_SHOWN))]}


class EncodeRequest(Body):
    """What `POST /encode` takes, as JSON or as a form; `model` is this gateway's own."""

    id: Any = None
    texts: Annotated[Any, WithJsonSchema(_TEXTS_SHOWN)] = None
    is_tokenized: bool = False
    model: str | None = None


def _read(request: Request, content: bytes) -> Any:
    """The fields of a request; of a form, `texts` as often as there are texts. curl calls JSON a form by itself."""
    is_form = request.headers.get("content-type", "").startswith(_FORM) and not content.lstrip().startswith(b"{")
    if not is_form:
        return read_json(content)
    found, most = (
        content.count(b"&") + 1,
        request.app.state.gateway.settings.max_texts + len(EncodeRequest.model_fields),
    )
    if found > most:  # which would be taken apart one by one
        raise Failure("large", f"the form has {found} fields; with as many texts as a request may have they are {most}")
    try:
        given = parse_qs(content.decode(), strict_parsing=True, keep_blank_values=True)
    except ValueError as error:
        raise Failure("invalid", f"the body is no form: {error}") from None
    fields: dict[str, Any] = {name: values[-1] for name, values in given.items()}
    texts = given.get("texts", [])
    if texts:
        fields["texts"] = orjson.loads(texts[0]) if len(texts) == 1 and _is_json(texts[0]) else texts
    return fields


def _is_json(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), list)
    except orjson.JSONDecodeError:
        return False


@bert_as_service.post("/encode", body=EncodeRequest, read=_read)
async def encode(call: Call, body: EncodeRequest) -> Response:
    """Texts, `one ||| other` for a pair, or lists of tokens, to vectors, as `BertClient.encode` gives them."""
    try:
        size = len(orjson.dumps([body.id]))  # which goes back as it came
    except TypeError:
        raise Failure("invalid", "id is nested too deep to be sent back", "id") from None
    if size > _MAX_ID:  # which is kept until then, and may take 25 times its bytes
        raise Failure("invalid", f"id has {size} bytes; it may have {_MAX_ID}", "id")
    try:
        texts = read_texts(body.texts, body.is_tokenized)
    except (TypeError, ValueError) as error:
        raise Failure("invalid", str(error), "texts") from None
    call.gateway.limits.check_texts(texts, "texts")
    target = await call.find(body.model, Kind.VECTORS)
    options: dict[str, Any] = {"normalize": False, "pair_truncation": "bert_as_service"}
    if body.is_tokenized:
        options["is_tokenized"] = True
    else:
        options |= {"split_special_tokens": True, "prompt": ""}
    vectors = await target.answer(VECTORS, texts, options)
    return json_answer({"id": body.id, "result": vectors, "status": 200})


@bert_as_service.get("/status/server")
async def server_status(call: Call) -> Response:
    """What `BertClient.server_status` says."""
    family = await call.gateway.families.first(Kind.VECTORS)
    counts = await family.session.ask(served(family.name), Deadline(call.gateway.settings.timeout))
    statistic = {
        "num_data_request": counts.requests,
        "num_total_request": counts.requests,
        "num_total_seq": counts.texts,
        "avg_size_per_request": counts.texts / max(1, counts.requests),
    }
    return json_answer({**_config(family), "statistic": statistic})


def _config(family: Family) -> dict[str, Any]:
    info = family.info
    return {
        "model": info.model,
        "max_seq_len": info.max_seq_len,
        "pooling_layer": list(info.layers),
        "pooling_strategy": POOLING_NUMBERS.get(info.pooling, info.pooling),
        "max_batch_size": info.max_batch_size,
        "server_version": info.server_version,
    }


@bert_as_service.get("/status/client", fails=())
async def client_status(call: Call) -> Response:
    """What `BertClient.status` says, of the gateway's own requests."""
    return json_answer(
        {
            "num_pending_request": call.gateway.limits.answered,
            "output_fmt": "list",
            "client_version": __version__,
            "timeout": round(1000 * call.gateway.settings.timeout),
        }
    )
