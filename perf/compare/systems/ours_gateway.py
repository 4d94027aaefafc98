"""This project's gateway before its server, asked in OpenAI's form as infinity is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from perf.compare.systems.openai_form import Client
from perf.compare.systems.ours import Ours
from perf.compare.systems.server import answers, free_port, serving
from perf.compare.systems.system import Model, Serving

if TYPE_CHECKING:
    from client_sdk import LocalServer

__all__ = ["Client", "OursGateway"]


class OursGateway(Ours):
    """The same server, and a gateway in a process of its own."""

    name = "ours-gateway"
    title = "bert-on-triton, through its gateway"
    settings = (
        "the same server behind `python -m client_sdk gateway` (no access log), which asks it over gRPC; OpenAI form "
        "with base64; bulk: 2 clients with 1,024 texts a request"
    )

    @contextmanager
    def serve(self, model: Model) -> Iterator[Serving]:
        """Run both."""
        with super().serve(model) as server:
            port = free_port()
            command = (
                *(sys.executable, "-m", "client_sdk", "gateway", "--triton", server.config["url"], "--no-access-log"),
                *("--listen", f"127.0.0.1:{port}"),
            )
            with serving(command, lambda log: answers(port, "/health/live")):
                yield Serving({"port": port, "path": "/v1/embeddings", "model": model.family}, server.pid)

    def config(self, server: LocalServer, model: Model) -> dict[str, Any]:
        """For the gateway."""
        return {"url": server.grpc_url}
