"""mosec with ONNX Runtime: `mosec_server`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from perf.compare.systems import openai_form
from perf.compare.systems.environment import Environment
from perf.compare.systems.sentence_transformers import onnx
from perf.compare.systems.sentence_transformers.onnx import fused_model
from perf.compare.systems.server import answers, free_port, serving
from perf.compare.systems.system import Model, Peer, Serving

# The workers are ready about three seconds after /metrics answers.
_WORKERS_SECONDS = 6.0
_TIMEOUT_MS = 300_000  # of a request, which may hold many texts; its default is 3 seconds


class Mosec(Peer):
    """A worker a core, each with a session of one thread."""

    name = "mosec"
    title = "mosec + ONNX Runtime"
    settings = (
        "a process a core with one thread each, a graph fused by onnxruntime.transformers, up to 32 requests a batch, "
        "max_wait_time 5 ms, texts sorted by length within a batch and padded 16 at a time; OpenAI form with base64; "
        "bulk: 4 clients with 256 texts a request"
    )
    environments = (
        Environment("mosec", ("mosec==0.9.8", "onnxruntime==1.31.1", "tokenizers==0.22.2", "numpy==1.26.4")),
        onnx.ENVIRONMENT,  # makes the graph
    )

    def prepare(self, model: Model) -> None:
        """Export and fuse."""
        fused_model(model)

    @contextmanager
    def serve(self, model: Model) -> Iterator[Serving]:
        """Run it."""
        port = free_port()
        command = [
            *(self.environments[0].python, "-m", "perf.compare.systems.mosec_server"),
            *("--address", "127.0.0.1", "--port", str(port), "--log-level", "warning", "--timeout", str(_TIMEOUT_MS)),
        ]
        variables = {"MODEL_FOLDER": str(fused_model(model))}
        with serving(command, lambda log: answers(port, "/metrics"), variables=variables) as pid:
            time.sleep(_WORKERS_SECONDS)
            yield Serving({"port": port, "path": "/inference", "model": "model"}, pid)


class Client(openai_form.Client):
    """POST /inference."""

    bulk_texts, bulk_clients = 256, 4
