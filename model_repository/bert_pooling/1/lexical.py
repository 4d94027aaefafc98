"""Weights of a text's own tokens as a sparse vector over the vocabulary: what the step does for BGE-M3.

`token_weights` FP32 [N, S, 1], `input_ids` and `attention_mask` INT32 [N, S] to INDICES INT32 and WEIGHTS FP32 [N, K],
the heaviest first and padded with -1 and 0. A token weighs what is above 0, and as a word the most that it weighs
anywhere in its text; special tokens are no words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import sparse


class Lexical:
    """A family's tokens that are no words."""

    reads = "token_weights"
    outputs = sparse.Sparse.outputs
    said, one, of_others = sparse.Sparse.said, sparse.Sparse.one, sparse.Sparse.of_others

    def __init__(self, settings: Mapping[str, str]) -> None:
        """Read the settings of a family."""
        self.no_words = np.array(json.loads(settings["lexical"]), np.int32)

    def compute(
        self, parameters: Mapping[str, Any], read: Callable[[str], npt.NDArray[Any]]
    ) -> tuple[tuple[npt.NDArray[Any], ...], npt.NDArray[np.bool_]]:
        """The words and weights of a request whose inputs `read` gives by name, and which texts' are finite, [N].

        Raises:
            Refused: A parameter is wrong.
        """
        ids, weights = read("input_ids"), read("token_weights")[..., 0]
        most = sparse.most(parameters, ids.shape[1])
        counts = (read("attention_mask") == 1) & ~np.isin(ids, self.no_words)
        indices, found = _words(ids, np.where(counts, np.maximum(weights, 0), np.float32(0)))
        return sparse.cut(indices, found, most), np.isfinite(weights).all(axis=1)


def _words(ids: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], ...]:
    """Each row's words once, the heaviest first; of equal ones the lower id. [N, S] both, with -1 and 0 behind them."""
    order = np.lexsort((-weights, ids))  # by id, of each the heaviest first
    ids, weights = np.take_along_axis(ids, order, axis=1), np.take_along_axis(weights, order, axis=1)
    weights[:, 1:][ids[:, 1:] == ids[:, :-1]] = 0
    order = np.argsort(-weights, axis=1, kind="stable")
    ids, weights = np.take_along_axis(ids, order, axis=1), np.take_along_axis(weights, order, axis=1)
    return np.where(weights > 0, ids, np.int32(-1)), weights
