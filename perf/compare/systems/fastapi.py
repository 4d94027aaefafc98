"""FastAPI around sentence-transformers: `fastapi_server`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from perf.compare.systems.http_client import Posts
from perf.compare.systems.sentence_transformers import torch
from perf.compare.systems.server import answers, free_port, serving
from perf.compare.systems.system import Model, Peer, Serving


class FastAPIServer(Peer):
    """The endpoint of `fastapi_server`, in the environment of sentence-transformers."""

    name = "fastapi"
    title = "FastAPI + sentence-transformers"
    settings = (
        "uvicorn, one process, a thread a request (encodes overlap), torch with a thread a core, batch_size 32; "
        "JSON; bulk: 2 clients with 1,024 texts a request, which encode sorts by length"
    )
    environments = (torch.ENVIRONMENT,)

    @contextmanager
    def serve(self, model: Model) -> Iterator[Serving]:
        """Run it."""
        port = free_port()
        command = [
            self.environments[0].python,
            "-m",
            "perf.compare.systems.fastapi_server",
            model.checkpoint,
            str(port),
        ]
        with serving(command, lambda log: answers(port, "/health")) as pid:
            yield Serving({"port": port}, pid)


class Client:
    """POST /encode."""

    # More clients, or smaller requests, are slower: threads in each other's way, and more padding.
    bulk_texts, bulk_clients = 1024, 2

    def __init__(self, config: dict[str, Any]) -> None:
        self.connect = Posts(config["port"], "/encode").connect

    def prepare(self, texts: list[str]) -> bytes:
        """The body."""
        return json.dumps({"texts": texts}).encode()

    def vectors(self, answer: bytes) -> np.ndarray:
        """Parse the numbers."""
        return np.array(json.loads(answer)["vectors"], np.float32)
