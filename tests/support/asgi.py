"""Requests to an ASGI application without a socket, whose bodies come as a test wants them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

from client_sdk.gateway import GatewaySettings, create_app
from tests.support.servers.gateways import Answer

Chunks = Callable[[], Any]
"""Makes an asynchronous iterator of bytes."""


@asynccontextmanager
async def open_app(**settings: Any) -> AsyncIterator[Any]:
    """A gateway to where no server is."""
    app = create_app(GatewaySettings(**{"triton": "grpc://127.0.0.1:1", **settings}))
    async with app.router.lifespan_context(app):
        yield app


async def request(
    app: Any, method: str, path: str, body: bytes | Chunks = b"", headers: Mapping[str, str] = MappingProxyType({})
) -> Answer:
    """What it answers."""
    chunks = body() if callable(body) else None
    sent: list[dict[str, Any]] = []
    whole = False

    async def receive() -> dict[str, Any]:
        nonlocal whole
        if whole:
            await asyncio.Event().wait()  # it does not hang up
        if chunks is None:
            whole = True
            return {"type": "http.request", "body": body, "more_body": False}
        try:
            return {"type": "http.request", "body": await anext(chunks), "more_body": True}
        except StopAsyncIteration:
            whole = True
            return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"content-type", b"application/json"),
            *((name.encode(), value.encode("latin-1")) for name, value in headers.items()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    await app(scope, receive, send)
    start, *rest = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], found, b"".join(message.get("body", b"") for message in rest))


async def post(app: Any, path: str, **fields: Any) -> Answer:
    """A request with a body of JSON."""
    return await request(app, "POST", path, json.dumps(fields).encode())
