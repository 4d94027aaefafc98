"""A vector for each token of a text: what the step does for a late-interaction family.

`token_vectors` FP32 [N, S, D], which the network has projected and normalised, go out as TOKEN_EMBEDDING as they
are; of `input_ids` and `attention_mask` INT32 [N, S] comes ATTENTION_MASK [N, S], 1 at each vector that counts: not at
padding, nor, in documents, at tokens of the checkpoint's skip list, nor at a text's first token where that stands for
the whole text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


class Multi:
    """A family's skip list."""

    reads = "token_vectors"
    outputs = ("TOKEN_EMBEDDING", "ATTENTION_MASK")
    said, one = "a vector for each token", "a token's vector that is"

    # Parameters of families of other kinds, which would have no effect here.
    of_others = ("pooling", "normalize", "truncate_dim", "activation", "max_active_dims")

    def __init__(self, settings: Mapping[str, str]) -> None:
        """Read the settings of a family."""
        self.skipped = np.array(json.loads(settings.get("skip_ids", "[]")), np.int32)
        self.skip_types: list[str] = json.loads(settings.get("skip_types", "[]"))
        self.skips_first = settings.get("skips_first") == "true"

    def compute(
        self, parameters: Mapping[str, Any], read: Callable[[str], npt.NDArray[Any]]
    ) -> tuple[tuple[npt.NDArray[Any], ...], npt.NDArray[np.bool_]]:
        """The vectors and masks of a request whose inputs `read` gives by name, and which texts' are finite, [N]."""
        vectors, mask = read("token_vectors"), read("attention_mask")
        # A sum is not finite where a number is not, and takes no memory.
        finite = np.isfinite(vectors.sum(axis=(1, 2)))
        if self.skips_first:
            mask = np.where(np.cumsum(mask, axis=1) == 1, np.int32(0), mask)
        if parameters.get("input_type", "document") in self.skip_types:
            mask = np.where(np.isin(read("input_ids"), self.skipped), np.int32(0), mask)
        return (vectors, mask), finite
