"""This project's server without its client: JSON made before the clock, over HTTP, answers not parsed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from perf.compare.systems.http_client import Posts
from perf.compare.systems.ours import Ours
from perf.compare.systems.system import BULK, Model

if TYPE_CHECKING:
    from client_sdk import LocalServer


class OursHttp(Ours):
    """The same server; what is left out is the SDK."""

    name = "ours-http"
    title = "bert-on-triton, over HTTP without its client"
    settings = "the same server without client_sdk, in Triton's own form: JSON in, raw float32 out"
    loads = tuple(load for load in Ours.loads if load != BULK)

    def config(self, server: LocalServer, model: Model) -> dict[str, Any]:
        """Where the family is asked."""
        return {"port": urlsplit(server.http_url).port, "path": f"/v2/models/{model.family}/infer"}


class Client:
    """POST /v2/models/NAME/infer."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.connect = Posts(config["port"], config["path"]).connect

    def prepare(self, texts: list[str]) -> bytes:
        """The body."""
        text = {"name": "TEXT", "datatype": "BYTES", "shape": [len(texts), 1], "data": texts}
        embedding = {"name": "EMBEDDING", "parameters": {"binary_data": True}}
        return json.dumps({"inputs": [text], "outputs": [embedding]}).encode()

    def vectors(self, answer: bytes) -> np.ndarray:
        """The numbers, which follow a JSON object that tells their shape."""
        header, end = json.JSONDecoder().raw_decode(answer.decode("latin-1"))
        return np.frombuffer(answer[end:], np.float32).reshape(header["outputs"][0]["shape"])
