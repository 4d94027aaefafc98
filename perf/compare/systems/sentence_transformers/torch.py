"""sentence-transformers in process, on PyTorch: what the vectors of all others are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from perf.compare.systems.environment import Environment
from perf.compare.systems.system import InProcess, Model

ENVIRONMENT = Environment(
    "sentence-transformers",
    (
        "sentence-transformers==6.2.0",
        "transformers==5.23.0",
        "torch==2.13.0",
        "fastapi==0.165.0",
        "uvicorn==0.32.1",
    ),
)

# Its default. The library sorts by length, so that padding is low with any; 8, 16 and 64 showed no clear gain.
BATCH_SIZE = 32


class SentenceTransformersTorch(InProcess):
    """The library as it comes."""

    name = "sentence-transformers"
    title = "sentence-transformers in process, torch"
    settings = (
        f"fp32, sdpa attention, a torch thread a core, batch_size {BATCH_SIZE}, sorted by length by the library; "
        "clients are threads that call encode"
    )
    environments = (ENVIRONMENT,)

    def config(self, model: Model) -> dict[str, Any]:
        """What SentenceTransformer is made with."""
        return {"model_name_or_path": str(model.checkpoint), "device": "cpu"}


class Client:
    """`SentenceTransformer.encode`, called by each thread."""

    def __init__(self, config: dict[str, Any]) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(**config)

    def prepare(self, texts: list[str]) -> list[str]:
        """As they are."""
        return texts

    def connect(self) -> Callable[[list[str]], np.ndarray]:
        """The call itself."""
        return self._encode

    def vectors(self, answer: np.ndarray) -> np.ndarray:
        """As they come."""
        return answer

    def bulk(self, texts: list[str]) -> Callable[[], np.ndarray]:
        """One call."""
        return lambda: self._encode(texts)

    def _encode(self, texts: list[str]) -> np.ndarray:
        found: np.ndarray = self._model.encode(texts, batch_size=BATCH_SIZE, show_progress_bar=False)
        return found
