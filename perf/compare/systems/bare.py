"""The ceiling: bare ONNX Runtime in one process, on ids made before the clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from client_sdk._server.tritonserver import HUGE_PAGES
from perf.compare.systems.system import BULK, InProcess, Model

_MAX_SEQ_LEN = 512


class BareWide(InProcess):
    """All cores on one slice."""

    name = "bare"
    title = "bare ONNX Runtime, slices one after the other"
    settings = (
        "the exported network in huge pages, one session with a thread a core; texts sorted by length, slices of 384 "
        "tokens"
    )
    loads = ("1x1", BULK)
    mode = "one after the other"
    variables = {"GLIBC_TUNABLES": HUGE_PAGES}

    def config(self, model: Model) -> dict[str, Any]:
        """Where the network is."""
        return {"repository": str(model.repository), "name": model.family, "mode": self.mode}


class BareNarrow(BareWide):
    """A slice a core."""

    name = "bare-narrow"
    title = "bare ONNX Runtime, slices side by side"
    settings = "the same, one session with one thread, as many slices at once as cores"
    loads = (BULK,)
    mode = "side by side"


class Client:
    """The network itself. A request is a computation, and one text."""

    def __init__(self, config: dict[str, Any]) -> None:
        from perf.ceiling.ceiling import Bare

        self._bare = Bare(Path(config["repository"]), config["name"], _MAX_SEQ_LEN)
        self._mode = config["mode"]

    def prepare(self, texts: list[str]) -> list[Callable[[], np.ndarray]]:
        """Make the ids."""
        return [self._bare.one(text) for text in texts]

    def connect(self) -> Callable[[list[Callable[[], np.ndarray]]], list[np.ndarray]]:
        """Compute one text after the other."""
        return lambda computations: [compute() for compute in computations]

    def vectors(self, answer: list[np.ndarray]) -> np.ndarray:
        """The means, scaled to length 1: pooled [1, 4, D] holds the mean first."""
        means = np.concatenate([pooled[:, 0] for pooled in answer])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def bulk(self, texts: list[str]) -> Callable[[], None]:
        """All the slices."""
        return self._bare.bulk(texts)[self._mode]
