"""What tells one exported model from another: a hash over its network, its tokenizer and its settings.

A version number says nothing about which weights answer, so every model of a family carries the identity of each of its
versions (`configs.IDENTITY`), a request may name the one that it wants, and each Python step refuses what is meant for
another. The hash is over what an export is made of, not over the files it writes: those differ with the versions of
libraries, and a TensorRT engine with every build, where the vectors are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from export.checkpoint.checkpoint import Checkpoint
from export.network.weights import Weights
from export.repository.configs import step_settings
from export.repository.family import Family

_FORMAT = 1  # to be counted up when an export of the same checkpoint and settings gives other vectors than before
_DIGITS = 32  # hexadecimal


class DigestedWeights:
    """Weights that remember what was taken of them; a `Weights`."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.digests: dict[str, str] = {}
        """SHA-256 of each array that was taken, by its name."""

    def has(self, name: str) -> bool:
        """Say whether there is a weight of this name."""
        return self._weights.has(name)

    def take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the weight `name` as a float32 array of `shape`; raises as the weights themselves do."""
        array = self._weights.take(name, shape)
        self.digests[name] = _digest(array)
        return array

    def skipped(self) -> list[str]:
        """Return the stored names, sorted, of the tensors that were not taken so far."""
        return self._weights.skipped()


def of(source: Checkpoint, weights: Mapping[str, str], family: Family, precision: str) -> str:
    """The identity of an export: 32 hexadecimal digits.

    The backend, and how requests are batched, are not part of it: they do not decide what a vector is.

    Args:
        source: What is exported.
        weights: SHA-256 of each weight of the network, by name.
        family: The settings of the export.
        precision: Of the network.
    """
    content = {
        "format": _FORMAT,
        "network": {"model_type": source.encoder.model_type, **source.settings},
        "weights": dict(weights),
        "pooler": family.pooler,
        "precision": precision,
        "tokenizer": json.loads(source.tokenizer_json),
        "settings": step_settings(family),
        "dense": [
            {name: _digest(array) for name, array in stage.arrays.items()}
            for stage in source.defaults.stages[: len(family.stages)]
        ],
    }
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _digest(array: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
