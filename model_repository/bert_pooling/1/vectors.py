"""The arithmetic of the pooling: reductions to the vector asked for; what the step does, without Triton."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

REDUCTIONS = ("mean", "max", "first", "last")  # in `pooled` of every network

# The reductions that a pooling puts side by side. Several are joined by "+", each once.
POOLINGS = {
    "mean": ("mean",),
    "max": ("max",),
    "mean_max": ("mean", "max"),
    "cls": ("first",),
    "last": ("last",),
    "lasttoken": ("last",),
    "mean_sqrt_len_tokens": ("mean_sqrt_len_tokens",),
    "weightedmean": ("weightedmean",),
}


def _gelu(x: Array) -> Array:
    erf: Array = np.vectorize(math.erf, otypes=[np.float32])(x / np.float32(math.sqrt(2)))
    return 0.5 * x * (1 + erf)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": _gelu,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "leaky_relu": lambda x: np.where(x < 0, np.float32(0.01) * x, x),
}

Stage = Callable[[Array], Array]  # of vectors [N, D]


def parts(pooling: Any, there: Sequence[str]) -> tuple[str, ...]:
    """The reductions of a pooling; none where there is no such pooling of the reductions that are there."""
    names = pooling.split("+") if isinstance(pooling, str) else [""]
    found = tuple(part for name in names for part in POOLINGS.get(name, ("",)))
    return found if {*found} <= {*there} and len({*found}) == len(found) else ()


def reduced(pooled: Array, places: Sequence[int]) -> Array:
    """Of the reductions [N, 4 or more, D] those at so many places, side by side: [N, D], [N, 2D], ..."""
    part = pooled[:, places]
    return part.reshape(len(part), part.shape[1] * part.shape[2])


def stage(kind: str, arrays: Mapping[str, Array]) -> Stage:
    """What is done to vectors behind the pooling: see `Stage` in export/checkpoint/sentence_transformers.py."""
    if kind == "normalize":
        return _normalized
    if kind == "layer_norm":
        return lambda x: _layer_norm(x, arrays["weight"], arrays["bias"])
    name, _, with_residual = kind.partition("+")
    activation, weight, bias = ACTIVATIONS[name], arrays["weight"].T, arrays.get("bias", np.float32(0))
    if not with_residual:
        return lambda x: activation(x @ weight + bias)
    if "residual" not in arrays:
        return lambda x: activation(x @ weight + bias) + x
    residual = arrays["residual"].T
    return lambda x: activation(x @ weight + bias) + x @ residual


def transformed(x: Array, stages: Sequence[Stage]) -> Array:
    """What the stages, one after the other, make of vectors [N, D]."""
    with np.errstate(all="ignore"):  # `finished` tells what is not finite
        for each in stages:
            x = each(x)
    return x


def finished(x: Array, normalize: bool) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Vectors [N, D] as they are answered, each divided by its length with `normalize`; and which are finite, [N].

    One whose length overflows counts among those that are not.
    """
    with np.errstate(all="ignore"):
        norms = np.sqrt(np.square(x).sum(axis=1, keepdims=True)) if normalize else x
        finite = np.isfinite(norms).all(axis=1)  # a norm is if all its vector is, and does not overflow
        if normalize:
            x = _divided(x, norms)
    return np.ascontiguousarray(x), finite


def _normalized(x: Array) -> Array:
    return _divided(x, np.sqrt(np.square(x).sum(axis=1, keepdims=True)))


def _divided(x: Array, norms: Array) -> Array:
    # 1e-12: as torch.nn.functional.normalize, so that a zero vector stays zero
    divided: Array = x / np.maximum(norms, np.float32(1e-12))
    return divided


def _layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    """As torch.nn.LayerNorm, with the epsilon that it has by itself."""
    x = x - x.mean(axis=1, keepdims=True)
    normed: Array = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + np.float32(1e-5)) * weight + bias
    return normed
