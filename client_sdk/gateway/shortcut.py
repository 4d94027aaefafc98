"""The way to a route that passes by FastAPI's: an answer is made by one call, whatever it does for others."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from client_sdk.gateway.protocols.protocol import Endpoint

_TRACED = "fastapi.telemetry"
"""In the scope of a request whose span FastAPI makes, which it names when it chooses the route."""


class Shortcut:
    """Around an application: routes without parameters are found by their path, in one look."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[tuple[str, str], Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is such a route's, and pass on what is not."""
        endpoint = None
        if scope["type"] == "http" and _TRACED not in scope:
            endpoint = self._endpoints.get((scope["method"], scope["path"]))
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)
