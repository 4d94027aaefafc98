"""infinity's /rerank, with its torch and its ONNX engine."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from perf.compare.systems import infinity
from perf.compare.systems.http_client import Posts
from perf.rerank.documents import Pairs, parts, scores

_SETTINGS = (
    "fp32, batch-size 32, no warm-up of its own, no disk cache, no tokenizing to count; all documents in one request, "
    "which it sorts by length itself"
)


class InfinityTorch(infinity.InfinityTorch):
    """With BetterTransformer, its default."""

    settings = f"BetterTransformer (its default), {_SETTINGS}"


class InfinityOnnx(infinity.InfinityOnnx):
    """On the graph that the CrossEncoder has."""

    settings = f"a graph fused by onnxruntime.transformers, {_SETTINGS}"


class Client:
    """POST /rerank."""

    # As many documents as it takes in one request.
    bulk_texts, bulk_clients = 2048, 1

    def __init__(self, config: dict[str, Any]) -> None:
        self.connect = Posts(config["port"], "/rerank").connect

    def prepare(self, pairs: Pairs) -> bytes:
        """The body."""
        query, documents = parts(pairs)
        return json.dumps({"model": "model", "query": query, "documents": documents}).encode()

    def vectors(self, answer: bytes) -> np.ndarray:
        """The scores, in the order of the documents."""
        return scores((one["index"], one["relevance_score"]) for one in json.loads(answer)["results"])
