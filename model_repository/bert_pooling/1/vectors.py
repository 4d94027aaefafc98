"""The arithmetic of the pooling: reductions to the vector asked for; what the step does, without Triton."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

PLACES = {"mean": slice(0, 1), "max": slice(1, 2), "mean_max": slice(0, 2), "cls": slice(2, 3), "last": slice(3, 4)}


def _gelu(x: Array) -> Array:
    erf: Array = np.vectorize(math.erf, otypes=[np.float32])(x / np.float32(math.sqrt(2)))
    return 0.5 * x * (1 + erf)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": _gelu,
}

# A Dense layer: its weight [from, to], its bias [to], its activation.
Dense = tuple[Array, Array, Callable[[Array], Array]]


def reduced(pooled: Array, pooling: str) -> Array:
    """Of the reductions [N, 4, D] those of a pooling, side by side: [N, D], or [N, 2D]."""
    part = pooled[:, PLACES[pooling]]
    return part.reshape(len(part), part.shape[1] * part.shape[2])


def transformed(x: Array, layers: Sequence[Dense]) -> Array:
    """What Dense layers, one after the other, make of vectors [N, D]."""
    with np.errstate(all="ignore"):  # `finished` tells what is not finite
        for weight, bias, activation in layers:
            x = activation(x @ weight + bias)
    return x


def finished(x: Array, normalize: bool) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Vectors [N, D] as they are answered, each divided by its length with `normalize`; and which are finite, [N].

    One whose length overflows counts among those that are not.
    """
    with np.errstate(all="ignore"):
        norms = np.sqrt(np.square(x).sum(axis=1, keepdims=True)) if normalize else x
        finite = np.isfinite(norms).all(axis=1)  # a norm is if all its vector is, and does not overflow
        if normalize:  # 1e-12: as torch.nn.functional.normalize, so that a zero vector stays zero
            x = x / np.maximum(norms, np.float32(1e-12))
    return np.ascontiguousarray(x), finite
