"""This project: its server, asked by its own client over gRPC to rerank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from perf.compare.systems import ours
from perf.rerank.documents import Pairs, parts, scores


class Ours(ours.Ours):
    """As exported, nothing set."""


class Client:
    """`Client.rerank`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def prepare(self, pairs: Pairs) -> tuple[str, list[str]]:
        """The texts: the SDK makes its messages in the call, and that is timed."""
        return parts(pairs)

    def connect(self) -> Callable[[tuple[str, list[str]]], Any]:
        """A Client of its own."""
        from client_sdk import Client

        client = Client(**self._config)
        return lambda request: client.rerank(*request)

    def vectors(self, answer: Any) -> np.ndarray:
        """The scores, in the order of the documents."""
        return scores((one.index, one.score) for one in answer)

    def bulk(self, pairs: Pairs) -> Callable[[], Any]:
        """One call."""
        request, send = self.prepare(pairs), self.connect()
        send(self.prepare(pairs[:1]))  # it is connected
        return lambda: send(request)
