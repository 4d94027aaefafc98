"""What the network needs of a checkpoint's weights, and how the parts of an encoder take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from export.network.architectures.encoder import Linear, Stored

Array = npt.NDArray[np.float32]


class Weights(Protocol):
    """The weights of an encoder, whatever the format of its files, by the names that transformers' model gives them."""

    def has(self, name: str) -> bool:
        """Say whether there is a weight of this name."""

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return the weight `name` as a float32 array of `shape`.

        Raises:
            ExportError: It is missing, damaged, has another shape, is not of a floating-point type or not finite.
        """

    def skipped(self) -> list[str]:
        """Return the stored names, sorted, of the tensors that were not taken so far."""


def stored(weights: Weights, what: Stored, shape: tuple[int, ...]) -> Array:
    """Return a weight of `shape`, out of the one that it may be stored in."""
    whole = weights.take(what.name, (shape[0] * what.parts, *shape[1:]))
    if what.parts == 1:
        return whole
    grouped = whole.reshape(what.groups, what.parts, shape[0] // what.groups, *shape[1:])
    return np.ascontiguousarray(grouped[:, what.part]).reshape(shape)


def matrix(
    weights: Weights, layers: Sequence[Linear], sizes: Sequence[int], size_in: int
) -> tuple[Array, Array | None]:
    """Return linear layers of the same input as one: the weight [sum of sizes, size_in] and its bias, None for none."""
    arrays = [stored(weights, layer.weight, (size, size_in)) for layer, size in zip(layers, sizes, strict=True)]
    biases = [
        np.zeros(size, np.float32) if layer.bias is None else stored(weights, layer.bias, (size,))
        for layer, size in zip(layers, sizes, strict=True)
    ]
    has_bias = any(layer.bias for layer in layers)
    weight = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return weight, (biases[0] if len(biases) == 1 else np.concatenate(biases)) if has_bias else None
