"""Tokenized texts as the inputs of a network, in either layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding

from export.network.layout import INPUTS, OF_TOKENS, shape_of

Arrays = dict[str, npt.NDArray[Any]]


def laid_end_to_end(encodings: Sequence[Encoding]) -> Arrays:
    """INT32 [K] without padding, and each row's length in each input: what Triton's ragged batching hands over."""
    ids = np.array([i for e in encodings for i in e.ids], np.int32)
    types = np.array([i for e in encodings for i in e.type_ids], np.int32)
    ones = np.ones_like(ids)
    inputs = dict(zip(INPUTS, (ids, ones, types, ones), strict=True))
    return inputs | dict.fromkeys(map(shape_of, INPUTS), np.array([[len(e)] for e in encodings], np.int32))


def padded(encodings: Sequence[Encoding]) -> Arrays:
    """INT32 [N, S], zero at padding."""
    real = np.arange(max(map(len, encodings))) < np.array([[len(e)] for e in encodings])
    inputs = {}
    for name, values in laid_end_to_end(encodings).items():
        if name in INPUTS:
            inputs[name] = np.zeros(real.shape, np.int32)
            inputs[name][real] = values
    return inputs


def without_padding(outputs: Arrays, encodings: Sequence[Encoding]) -> Arrays:
    """The outputs of a padded network as the padding-free one has them: those of tokens [K, D], not [N, S, D]."""
    return {
        name: np.concatenate([row[: len(e)] for row, e in zip(array, encodings, strict=True)])
        if name in OF_TOKENS
        else array
        for name, array in outputs.items()
    }
