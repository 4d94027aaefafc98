"""A line of JSON for each request: when, what, how long and how much, and nothing of its texts."""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from datetime import datetime, timezone
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("client_sdk.gateway.access")

_NOTES = "client_sdk.gateway.notes"


def note(scope: MutableMapping[str, Any], **notes: Any) -> None:
    """Have the line of a request say this too: `model`, `error`, or `usage`, which may still grow."""
    scope.setdefault(_NOTES, {}).update(notes)


class AccessLog:
    """Around an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and log what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        scope[_NOTES] = {}  # here, so that a copy of the scope that is made further in has the same
        status, sent = 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            self._write(scope, status, sent, time.perf_counter() - started)

    def _write(self, scope: Scope, status: int, sent: int, seconds: float) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        notes = scope[_NOTES]
        usage = notes.pop("usage", None)
        client = scope.get("client")
        line = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(1000 * seconds, 2),
            "bytes": sent,
            **({} if usage is None else {"texts": usage.texts, "tokens": usage.tokens}),
            **notes,
        }
        logger.info("%s", orjson.dumps(line).decode())
