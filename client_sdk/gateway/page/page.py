"""The routes of the page. It is of three files, none of which needs a build or another host."""

from __future__ import annotations

from importlib.resources import files

from starlette.responses import Response

from client_sdk.gateway.answers import json_answer
from client_sdk.gateway.protocols.openai import form
from client_sdk.gateway.protocols.protocol import Body, Call, Protocol
from client_sdk.gateway.protocols.texts import TextOrTexts
from client_sdk.gateway.tokens import tokens_of

page = Protocol("Page", form)

_TYPES = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
_FILES = {name: files(__package__).joinpath(name).read_bytes() for name in _TYPES}
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@page.get("/", is_open=True, fails=(), media="text/html")
async def index(call: Call) -> Response:
    """A page to look at, and to try the models on."""
    return _file("index.html")


@page.get("/page/page.css", "/page/page.js", is_open=True, fails=(), media="text/*")
async def part(call: Call) -> Response:
    """What the page is made of."""
    return _file(call.request.scope["path"].rpartition("/")[2])


class TokensRequest(Body):
    """What the page asks."""

    model: str | None = None
    inputs: TextOrTexts


@page.post("/page/tokens", body=TokensRequest)
async def tokens(call: Call, body: TokensRequest) -> Response:
    """The tokens of texts, and how many there were before they were cut."""
    call.gateway.limits.check_texts(body.inputs, "inputs")
    target = await call.find(body.model, None)
    call.gateway.limits.check_tokens(body.inputs, target.family.info, "inputs")
    rows = await tokens_of(target, body.inputs)
    return json_answer([{"count": row.counted, "tokens": [token._asdict() for token in row.tokens]} for row in rows])


def _file(name: str) -> Response:
    return Response(_FILES[name], media_type=_TYPES[name], headers=_HEADERS)
