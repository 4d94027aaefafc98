"""Whether the gateway lives, whether what is behind it answers, and what has been asked."""

from __future__ import annotations

from starlette.responses import Response

from client_sdk.gateway.answers import json_answer
from client_sdk.gateway.metrics import CONTENT_TYPE
from client_sdk.gateway.protocols.openai import form
from client_sdk.gateway.protocols.protocol import Call, Protocol

health = Protocol("Health", form)


@health.get("/health/live", is_open=True, fails=())
async def live(call: Call) -> Response:
    """The gateway lives, whatever is behind it."""
    return json_answer({"status": "live"})


@health.get("/health/ready", is_open=True)
async def ready(call: Call) -> Response:
    """The server has answered one real text, just now."""
    family = await call.gateway.check()
    return json_answer({"status": "ready", "model": family.name})


@health.get("/metrics", is_open=True, fails=(), media="text/plain")
async def metrics(call: Call) -> Response:
    """What has been answered so far, in Prometheus' form."""
    return Response(call.gateway.metrics.text(), media_type=CONTENT_TYPE)
