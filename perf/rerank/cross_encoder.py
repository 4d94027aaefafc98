"""sentence-transformers' CrossEncoder in process, on PyTorch: what the scores of all others are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from perf.compare.systems.sentence_transformers.torch import BATCH_SIZE, SentenceTransformersTorch
from perf.rerank.documents import Pairs, parts, scores


class CrossEncoderTorch(SentenceTransformersTorch):
    """The library as it comes."""

    title = "CrossEncoder in process, torch"
    settings = f"fp32, a torch thread a core, batch_size {BATCH_SIZE}, sorted by length by the library; rank"


class Client:
    """`CrossEncoder.rank`."""

    def __init__(self, config: dict[str, Any]) -> None:
        from sentence_transformers import CrossEncoder

        self._model = CrossEncoder(**config)

    def prepare(self, pairs: Pairs) -> tuple[str, list[str]]:
        """As they are."""
        return parts(pairs)

    def connect(self) -> Callable[[tuple[str, list[str]]], Any]:
        """The call itself."""
        return lambda request: self._model.rank(*request, batch_size=BATCH_SIZE, show_progress_bar=False)

    def vectors(self, answer: Any) -> np.ndarray:
        """The scores, in the order of the documents."""
        return scores((one["corpus_id"], one["score"]) for one in answer)

    def bulk(self, pairs: Pairs) -> Callable[[], Any]:
        """One call."""
        request, send = self.prepare(pairs), self.connect()
        send(self.prepare(pairs[:1]))  # it is connected
        return lambda: send(request)
