"""This project: its server, asked by its own client over gRPC."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from perf.compare.systems.environment import PeerAbsent
from perf.compare.systems.system import Model, Peer, Serving
from perf.processes import descendants

if TYPE_CHECKING:
    from client_sdk import LocalServer

_BULK_SECONDS = 3600.0


class Ours(Peer):
    """As exported, nothing set."""

    name = "ours"
    title = "bert-on-triton"
    settings = "LocalServer, the family as `python -m export` writes it; client_sdk over gRPC, a Client for each client"

    @contextmanager
    def serve(self, model: Model) -> Iterator[Serving]:
        """Run a LocalServer."""
        from client_sdk import ClientError, LocalServer

        try:
            before = descendants(os.getpid())
            server = LocalServer(model.repository)
            server.start()
        except ClientError as error:
            raise PeerAbsent(str(error)) from None
        try:
            pid = next(pid for pid in descendants(os.getpid()) if pid not in before)  # the guard, the nearest
            yield Serving(self.config(server, model), pid)
        finally:
            server.stop()

    def config(self, server: LocalServer, model: Model) -> dict[str, Any]:
        """For the client."""
        return {"url": server.grpc_url, "model": model.family}


class Client:
    """The SDK."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def prepare(self, texts: list[str]) -> list[str]:
        """The texts: the SDK makes its messages in the call, and that is timed."""
        return texts

    def connect(self) -> Callable[[list[str]], np.ndarray]:
        """A Client of its own."""
        from client_sdk import Client

        return Client(**self._config).encode

    def vectors(self, answer: np.ndarray) -> np.ndarray:
        """As they come."""
        return answer

    def bulk(self, texts: list[str]) -> Callable[[], np.ndarray]:
        """One call."""
        from client_sdk import Client

        client = Client(**self._config)
        client.encode(texts[:1])
        return lambda: client.encode(texts, timeout=_BULK_SECONDS)
