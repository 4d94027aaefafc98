"""fastembed in process, whose batches are texts as they come, or sorted by length before it gets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from perf.compare.systems.environment import Environment
from perf.compare.systems.sentence_transformers import onnx
from perf.compare.systems.sentence_transformers.onnx import fused_folder
from perf.compare.systems.system import BULK, InProcess, Model

BATCH_SIZE = 32


class FastEmbed(InProcess):
    """The library as it comes."""

    name = "fastembed"
    title = "fastembed in process"
    settings = (
        f"fp32, a graph fused by onnxruntime.transformers, a thread a core, batch_size {BATCH_SIZE}, texts in their "
        "own order; clients are threads that call embed"
    )
    sorts = False
    environments = (
        Environment("fastembed", ("fastembed==0.9.1", "onnxruntime==1.31.1", "tokenizers==0.22.2", "numpy==1.26.4")),
        onnx.ENVIRONMENT,  # makes the graph
    )

    def prepare(self, model: Model) -> None:
        """Export and fuse."""
        fused_folder(model)

    def config(self, model: Model) -> dict[str, Any]:
        """The folder of the model, and how its texts are put in order."""
        return {"folder": str(fused_folder(model)), "sorts": self.sorts}


class FastEmbedSorted(FastEmbed):
    """What it does when its user sorts."""

    name = "fastembed-sorted"
    title = "fastembed in process, texts sorted"
    settings = "the same, texts sorted by their length in characters before the call, within the time"
    loads = ("2x64", BULK)
    sorts = True


class Client:
    """`TextEmbedding.embed`."""

    def __init__(self, config: dict[str, Any]) -> None:
        import json
        import os
        from pathlib import Path

        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        settings = json.loads(Path(config["folder"], "config.json").read_text("utf-8"))
        name = "local/model"
        TextEmbedding.add_custom_model(
            model=name,
            pooling=PoolingType.MEAN,
            normalization=True,
            sources=ModelSource(hf=name),
            dim=settings["hidden_size"],
            model_file="model.onnx",
        )
        self._model = TextEmbedding(
            name, specific_model_path=config["folder"], threads=len(os.sched_getaffinity(0)), cuda=False
        )
        self._sorts = config["sorts"]

    def prepare(self, texts: list[str]) -> list[str]:
        """As they are."""
        return texts

    def connect(self) -> Callable[[list[str]], np.ndarray]:
        """The call itself."""
        return self._embed

    def vectors(self, answer: np.ndarray) -> np.ndarray:
        """As they come."""
        return answer

    def bulk(self, texts: list[str]) -> Callable[[], np.ndarray]:
        """One call."""
        return lambda: self._embed(texts)

    def _embed(self, texts: list[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda index: len(texts[index])) if self._sorts else range(len(texts))
        found = np.stack(list(self._model.embed([texts[index] for index in order], batch_size=BATCH_SIZE)))
        vectors = np.empty_like(found)
        vectors[np.asarray(order)] = found
        return vectors
