"""BERT's forward pass as the paper has it, in float64 numpy, one text at a time: a reference without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Array = np.ndarray
_erf = np.vectorize(math.erf)

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu_fast": lambda x: 0.5 * x * (1 + np.tanh(x * 0.7978845608 * (1 + 0.044715 * x * x))),
    "gelu_pytorch_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def layers(
    weights: Mapping[str, Array],
    ids: Sequence[int],
    *,
    heads: int,
    types: Sequence[int] | None = None,
    act: str = "gelu",
    attended: Sequence[int] | None = None,
    eps: float = 1e-12,
) -> list[Array]:
    """The state after each encoder layer, [T, H]; tokens attend to those where `attended` is 1 (default: all)."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    count = len(ids)

    def linear(name: str, x: Array) -> Array:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = (
        w["embeddings.word_embeddings.weight"][list(ids)]
        + w["embeddings.position_embeddings.weight"][:count]
        + w["embeddings.token_type_embeddings.weight"][list(types or [0] * count)]
    )
    x = norm("embeddings.LayerNorm", x)
    mask = np.ones(count) if attended is None else np.asarray(attended, np.float64)
    states = []
    while f"encoder.layer.{len(states)}.output.dense.weight" in w:
        name = f"encoder.layer.{len(states)}"
        query, key, value = (
            np.split(linear(f"{name}.attention.self.{part}", x), heads, axis=-1) for part in ("query", "key", "value")
        )
        contexts = []
        for q, k, v in zip(query, key, value, strict=True):
            scores = q @ k.T / math.sqrt(q.shape[-1])
            shares = np.exp(scores - scores.max(-1, keepdims=True)) * mask
            contexts.append(shares / shares.sum(-1, keepdims=True) @ v)
        x = norm(
            f"{name}.attention.output.LayerNorm",
            linear(f"{name}.attention.output.dense", np.concatenate(contexts, -1)) + x,
        )
        inner = ACTIVATIONS[act](linear(f"{name}.intermediate.dense", x))
        x = norm(f"{name}.output.LayerNorm", linear(f"{name}.output.dense", inner) + x)
        states.append(x)
    return states


def pooler(weights: Mapping[str, Array], states: Sequence[Array]) -> Array:
    """BERT's pooler over the last layer's first token, [H]."""
    return np.tanh(states[-1][0] @ weights["pooler.dense.weight"].T + weights["pooler.dense.bias"])
