"""Spans of OpenTelemetry: one for each request, of which nothing that callers have written is part.

FastAPI makes them (from 0.165 on), and exports them where OTEL_EXPORTER_OTLP_ENDPOINT says where to and the packages
are there. Here is what it is told, what else a span says, and how Triton's own spans come to stand below it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from starlette.requests import Request

try:
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # older releases of FastAPI come without it
    _propagator = None
else:
    _propagator = TraceContextTextMapPropagator()

TELEMETRY: dict[str, Any] = {"auto_configure": True, "metrics": False, "logs": False, "operation_spans": False}
"""What FastAPI is told: spans of requests alone. An exception's words may hold a text, and metrics are counted here."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")
_FORMS = {"traceparent": _TRACEPARENT, "tracestate": _TRACESTATE}


def trace_context(request: Request) -> dict[str, str]:
    """The headers by which Triton's spans stand below this request's; where it has none, below its caller's."""
    headers: dict[str, str] = {}
    if _propagator is not None:
        _propagator.inject(headers)
    given = request.headers
    if headers or _TRACEPARENT.fullmatch(given.get("traceparent", "")) is None:
        return headers
    return {name: given[name] for name, form in _FORMS.items() if form.fullmatch(given.get(name, ""))}


def describe(scope: Mapping[str, Any], notes: MutableMapping[str, Any]) -> None:
    """Have the span of a request say what its line in the log does, and hide what its URL asks."""
    if _propagator is None or not (span := get_current_span()).is_recording():
        return
    if scope.get("query_string"):
        span.set_attribute("url.query", "REDACTED")
    if usage := notes.get("usage"):
        span.set_attributes({"bert.texts": usage.texts, "bert.tokens": usage.tokens})
    for name in ("model", "key", "error"):
        if name in notes:
            span.set_attribute(f"bert.{name}", notes[name])
