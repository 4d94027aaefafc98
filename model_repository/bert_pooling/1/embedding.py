"""Reduced vectors to the vector asked for: what the step does for a family of vectors.

`pooled` FP32 [N, 4, D] (mean, max, first, last, and more where the family's `reductions` say so) and, where the
checkpoint has a pooler, `pooler_output` FP32 [N, H] to EMBEDDING FP32: [N, D], [N, 2D] for two poolings side by side,
[N, H] for pooler, and fewer columns with truncate_dim. What the checkpoint has behind its pooling (the modules Dense,
LayerNorm and Normalize of sentence-transformers) follows the one that it was trained with.

`vectors` does the arithmetic.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import vectors
from refused import Refused, shown

POOLER = ("pooler",)


class Embedding:
    """A family's defaults, and the stages behind its pooling where it has any."""

    reads = "pooled"
    outputs = ("EMBEDDING",)
    said, one = "vectors", "a vector that is"
    of_others = ("activation", "max_active_dims")

    def __init__(self, settings: Mapping[str, str], inputs: Sequence[str], directory: str) -> None:
        """Read the settings of a family whose network gives `inputs`; `directory` is the version's."""
        self.default_pooling = settings["pooling"]
        self.default_normalize = settings["normalize"] == "true"
        self.has_pooler = "pooler_output" in inputs
        self.reductions = json.loads(settings.get("reductions", json.dumps(vectors.REDUCTIONS)))
        self.stages = _stages(directory, json.loads(settings.get("stages", "[]")))

    def compute(
        self, parameters: Mapping[str, Any], read: Callable[[str], vectors.Array]
    ) -> tuple[tuple[vectors.Array], npt.NDArray[np.bool_]]:
        """The vectors of a request whose inputs `read` gives by name, FP32 [N, ...], and which are finite, [N].

        Raises:
            Refused: A parameter is wrong.
        """
        pooling = parameters.get("pooling", self.default_pooling)
        parts = self._parts(pooling)
        if not parts:
            known = [name for name in vectors.POOLINGS if self._parts(name)] + ["pooler"] * self.has_pooler
            raise Refused(
                f"parameter pooling is {shown(pooling)}; this model takes {', '.join(known)}, "
                "and several (not pooler) joined by +, each once, such as cls+mean"
            )
        normalize = parameters.get("normalize", self.default_normalize)
        if not isinstance(normalize, bool):
            raise Refused(f"parameter normalize is {shown(normalize)}; it takes true or false")

        x = read("pooler_output" if parts == POOLER else "pooled")
        whole = np.ones(len(x), np.bool_)
        if "max" in parts:  # which may pass over a token that is NaN, and the mean does not
            whole = np.isfinite(x[:, self.reductions.index("mean")]).all(axis=1)
        if parts != POOLER:
            x = vectors.reduced(x, [self.reductions.index(part) for part in parts])
        if self.stages and parts == self._parts(self.default_pooling):
            x = vectors.transformed(x, self.stages)
        size = parameters.get("truncate_dim", x.shape[1])
        if type(size) is not int or not 1 <= size <= x.shape[1]:
            raise Refused(f"parameter truncate_dim is {shown(size)}; it takes 1 to {x.shape[1]}")
        x, finite = vectors.finished(x[:, :size], normalize)
        return (x,), finite & whole

    def _parts(self, pooling: Any) -> tuple[str, ...]:
        """The reductions of a pooling; none if this model has no such pooling."""
        return POOLER if self.has_pooler and pooling == POOLER[0] else vectors.parts(pooling, self.reductions)


def _stages(directory: str, kinds: list[str]) -> list[vectors.Stage]:
    """What follows the pooling, with the arrays of it that are in a file."""
    of_stage: list[dict[str, vectors.Array]] = [{} for _ in kinds]
    if {*kinds} - {"normalize"}:
        with np.load(os.path.join(directory, "stages.npz"), allow_pickle=False) as arrays:
            for key in arrays.files:
                name, _, index = key.partition("_")
                of_stage[int(index)][name] = arrays[key]
    return [vectors.stage(kind, arrays) for kind, arrays in zip(kinds, of_stage, strict=True)]
