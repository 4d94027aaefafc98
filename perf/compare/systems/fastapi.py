"""FastAPI around sentence-transformers: `fastapi_server`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from perf.compare.systems.openai_form import Client
from perf.compare.systems.sentence_transformers import torch
from perf.compare.systems.server import answers, free_port, serving
from perf.compare.systems.system import Model, Peer, Serving

__all__ = ["Client", "FastAPIServer"]


class FastAPIServer(Peer):
    """The endpoint of `fastapi_server`, in the environment of sentence-transformers."""

    name = "fastapi"
    title = "FastAPI + sentence-transformers"
    settings = (
        "uvicorn, one process, a thread a request (encodes overlap), torch with a thread a core, batch_size 32; "
        "OpenAI form with base64; bulk: 2 clients with 1,024 texts a request, which encode sorts by length"
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
            yield Serving({"port": port, "path": "/embeddings", "model": "model"}, pid)
