"""Logits to scores: what the step does for a classifier or cross-encoder.

`logits` FP32 [N, L] to SCORES FP32 [N, L], by the activation asked for: `sigmoid`, of each alone; `softmax`, over the
labels of a text; `none`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from refused import Refused, shown

Array = npt.NDArray[np.float32]


def _sigmoid(x: Array) -> Array:
    positive = np.exp(-np.abs(x))  # which does not overflow
    scores: Array = np.where(x < 0, positive, np.float32(1)) / (1 + positive)
    return scores


def _softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    scores: Array = powers / powers.sum(axis=1, keepdims=True)
    return scores


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"none": lambda x: x, "sigmoid": _sigmoid, "softmax": _softmax}


class Scores:
    """A family's default."""

    reads = "logits"
    outputs = ("SCORES",)
    said, one = "scores", "scores that are"

    # Parameters of families of other kinds, which would have no effect here.
    of_others = ("pooling", "normalize", "truncate_dim", "max_active_dims")

    def __init__(self, settings: Mapping[str, str]) -> None:
        """Read the settings of a family."""
        self.default = settings["activation"]

    def compute(
        self, parameters: Mapping[str, Any], read: Callable[[str], Array]
    ) -> tuple[tuple[Array], npt.NDArray[np.bool_]]:
        """The scores of a request whose inputs `read` gives by name, FP32 [N, ...], and which are finite, [N].

        Raises:
            Refused: A parameter is wrong.
        """
        activation = parameters.get("activation", self.default)
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise Refused(f"parameter activation is {shown(activation)}; it takes {', '.join(ACTIVATIONS)}")
        logits = read("logits")
        with np.errstate(all="ignore"):
            scores = np.ascontiguousarray(ACTIVATIONS[activation](logits))
        return (scores,), np.isfinite(logits).all(axis=1)
