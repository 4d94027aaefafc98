"""OpenAI's form, in which every server is asked: lists of texts, for base64; answers are not parsed while timed."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from perf.compare.systems.http_client import Posts


class Client:
    """POST to the embeddings of a server."""

    # 64 texts a request are slower in infinity, by a quarter with 2 clients: it sorts what waits, and too little would.
    bulk_texts, bulk_clients = 1024, 2

    def __init__(self, config: dict[str, Any]) -> None:
        posts = Posts(config["port"], config["path"], host=config.get("host", "127.0.0.1"))
        self.connect, self.close = posts.connect, posts.close
        self._model = config["model"]

    def prepare(self, texts: list[str]) -> bytes:
        """The body."""
        return json.dumps({"model": self._model, "input": texts, "encoding_format": "base64"}).encode()

    def vectors(self, answer: bytes) -> np.ndarray:
        """Decode base64."""
        rows = sorted(json.loads(answer)["data"], key=lambda row: row["index"])
        return np.stack([np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in rows])


def texts_of(body: bytes) -> list[str]:
    """What a server is asked for."""
    texts: list[str] = json.loads(body)["input"]
    return texts


def answer(vectors: np.ndarray) -> bytes:
    """What it answers."""
    rows = [
        {"object": "embedding", "index": index, "embedding": base64.b64encode(vector.astype("<f4")).decode()}
        for index, vector in enumerate(vectors)
    ]
    return json.dumps({"object": "list", "data": rows, "model": "model"}).encode()
