"""Whether the gateway lives, and whether what is behind it answers."""

from __future__ import annotations

from starlette.responses import Response

from client_sdk.gateway.answers import json_answer
from client_sdk.gateway.protocols.openai import form
from client_sdk.gateway.protocols.protocol import Call, Protocol

health = Protocol("Health", form)


@health.get("/health/live")
async def live(call: Call) -> Response:
    """The gateway lives, whatever is behind it."""
    return json_answer({"status": "live"})


@health.get("/health/ready")
async def ready(call: Call) -> Response:
    """The server has answered one real text, just now."""
    family = await call.gateway.check()
    return json_answer({"status": "ready", "model": family.name})
