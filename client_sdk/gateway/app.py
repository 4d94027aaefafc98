"""The application: all protocols, around one gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from client_sdk._version import __version__
from client_sdk.gateway.access_log import AccessLog
from client_sdk.gateway.failures import Failure
from client_sdk.gateway.keys import Keys
from client_sdk.gateway.metrics import Metrics
from client_sdk.gateway.page.page import page
from client_sdk.gateway.protocols.bert_as_service import bert_as_service
from client_sdk.gateway.protocols.cohere import cohere
from client_sdk.gateway.protocols.health import health
from client_sdk.gateway.protocols.late import late
from client_sdk.gateway.protocols.nim import nim
from client_sdk.gateway.protocols.openai import form, openai
from client_sdk.gateway.protocols.protocol import Protocol
from client_sdk.gateway.protocols.tei import tei
from client_sdk.gateway.protocols.weaviate import weaviate
from client_sdk.gateway.settings import GatewaySettings
from client_sdk.gateway.shortcut import Shortcut
from client_sdk.gateway.state import Gateway
from client_sdk.gateway.tracing import TELEMETRY

PROTOCOLS: tuple[Protocol, ...] = (openai, nim, cohere, tei, late, bert_as_service, weaviate, health, page)

_TITLE = "bert-on-triton gateway"
_CORS_SECONDS = 600


def create_app(settings: GatewaySettings | None = None) -> FastAPI:
    """An ASGI application that answers by what a Triton server says; it connects when it is first asked.

    Its `state.keys` are the keys of its callers, or None, to be read again by `reload`.

    Raises:
        InvalidArgument: The file of keys is not one.
        OSError: It cannot be read.
    """
    settings = GatewaySettings() if settings is None else settings
    keys = None if settings.keys is None else Keys(settings.keys)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.gateway = Gateway.start(settings, keys, metrics)
        try:
            yield
        finally:
            await app.state.gateway.families.close()

    # FastAPI's own pages are made of scripts from another host; and it would send who asks for PATH/ to PATH, texts and
    # key with them, by http:// even where a proxy in front of it speaks https://.
    options: dict[str, Any] = {
        "docs_url": None,
        "redoc_url": None,
        "redirect_slashes": False,
        "telemetry": TELEMETRY,
    }
    app = FastAPI(title=_TITLE, version=__version__, lifespan=lifespan, **options)
    for protocol in PROTOCOLS:
        app.include_router(protocol.router)
    app.add_middleware(
        Shortcut, endpoints={key: one for protocol in PROTOCOLS for key, one in protocol.endpoints.items()}
    )
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Retry-After"],  # which a page of another site cannot read else
            max_age=_CORS_SECONDS,
        )
    app.add_middleware(AccessLog, metrics=metrics)
    app.state.keys = keys
    app.add_exception_handler(404, _no_route)
    app.add_exception_handler(405, _no_route)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]  # not request.url, which also reads what else a caller has written
    failure = Failure("missing", f"there is no {request.method} {path}; GET /openapi.json lists all")
    answer = form(failure)
    answer.status_code = error.status_code
    answer.headers.update(error.headers or {})
    if methods := _methods(path):  # the header has those of the first route of a path alone
        answer.headers["allow"] = ", ".join(methods)
    return answer


def _methods(path: str) -> list[str]:
    """Those that a path is answered for."""
    routes = (route for protocol in PROTOCOLS for route in protocol.router.routes if isinstance(route, APIRoute))
    return sorted({method for route in routes if route.path_regex.match(path) for method in route.methods or ()})


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=_TITLE, version=__version__, routes=app.routes)
        bodies = [body for protocol in PROTOCOLS for body in protocol.bodies]
        _, found = models_json_schema(
            [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
        )
        schema.setdefault("components", {}).setdefault("schemas", {}).update(found["$defs"])
        app.openapi_schema = schema
    return app.openapi_schema
