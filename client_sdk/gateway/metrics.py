"""What a gateway counts of its requests, in Prometheus' form.

A request's model is known once its body has been read and its family found, and its key once it has been shown: until
then, and of a name that there is no family of, these labels are empty, so that nobody makes new ones by asking.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Those of one gateway."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        whose = ("route", "model", "key")
        self._requests = self._counter("requests", "Requests, by their status.", (*whose, "status"))
        self._texts = self._counter("texts", "Texts that were answered; a pair is one.", whose)
        self._tokens = self._counter("tokens", "Tokens that were computed.", whose)
        self._seconds = Histogram(
            "bert_gateway_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("route", "model"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._in_flight = Gauge(
            "bert_gateway_requests_in_flight", "Requests that are being answered.", registry=self._registry
        )

    def begin(self) -> None:
        """Count a request that has come."""
        self._in_flight.inc()

    def end(self, *, route: str, status: int, seconds: float, model: str, key: str, texts: int, tokens: int) -> None:
        """Count what became of it.

        Args:
            route: As it is declared, not as it was asked for; empty for none.
            status: Of the answer; 499 if the caller left before it.
            seconds: From its beginning to the end of the answer.
            model: The family, or empty.
            key: The name of the caller's key, or empty.
            texts: That were answered.
            tokens: That were computed.
        """
        self._in_flight.dec()
        self._requests.labels(route, model, key, str(status)).inc()
        self._seconds.labels(route, model).observe(seconds)
        if texts:
            self._texts.labels(route, model, key).inc(texts)
            self._tokens.labels(route, model, key).inc(tokens)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)

    def _counter(self, name: str, what: str, labels: tuple[str, ...]) -> Any:
        return Counter(f"bert_gateway_{name}", what, labels, registry=self._registry)
