"""What became of each request: counted, and a line of JSON: when, what, how long and how much; nothing of its texts."""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from datetime import datetime, timezone
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client_sdk.gateway.metrics import Metrics
from client_sdk.gateway.tracing import describe

logger = logging.getLogger("client_sdk.gateway.access")

_NOTES = "client_sdk.gateway.notes"


def note(scope: MutableMapping[str, Any], **notes: Any) -> None:
    """Have the line of a request say this too: `route`, `key`, `model`, `error`, or `usage`, which may grow."""
    scope.setdefault(_NOTES, {}).update(notes)


class AccessLog:
    """Around an application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, count it and log what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        scope[_NOTES] = {}  # here, so that a copy of the scope that is made further in has the same
        status, sent = 0, 0
        self._metrics.begin()

        async def counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                describe(scope, scope[_NOTES])
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            seconds = time.perf_counter() - started
            self._count(scope[_NOTES], status, seconds)
            self._write(scope, status, sent, seconds)

    def _count(self, notes: MutableMapping[str, Any], status: int, seconds: float) -> None:
        usage = notes.get("usage")
        self._metrics.end(
            route=notes.get("route", ""),
            status=status,
            seconds=seconds,
            model=notes.get("model", ""),
            key=notes.get("key", ""),
            texts=0 if usage is None else usage.texts,
            tokens=0 if usage is None else usage.tokens,
        )

    def _write(self, scope: Scope, status: int, sent: int, seconds: float) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        notes = scope[_NOTES]
        usage, _ = notes.pop("usage", None), notes.pop("route", None)
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
