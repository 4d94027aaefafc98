"""What every encoder is made of, in a graph: tables, linear layers, norms and activations."""

from __future__ import annotations

import numpy as np

from export.network.architectures.encoder import Encoder, Linear
from export.network.graph import Graph
from export.network.layout import Layout
from export.network.weights import Weights, matrix


class Parts:
    """Writes parts of an encoder; its methods take and return names of values, tokens' unless they say otherwise."""

    def __init__(self, g: Graph, encoder: Encoder, weights: Weights, layout: Layout) -> None:
        self.g = g
        self.encoder = encoder
        self.weights = weights
        self.layout = layout

    def table(self, name: str, rows: int, size: int) -> str:
        """Return a table of embeddings."""
        name = f"{name}.weight"
        return self.g.parameter(name, self.weights.take(name, (rows, size)))

    def linear(self, layer: Linear, x: str, size_in: int, size_out: int) -> str:
        """Return `x` by a linear layer."""
        self.g.scope(layer.name)
        weight, bias = matrix(self.weights, [layer], [size_out], size_in)
        return self.layout.product(f"{layer.name}{suffix(layer)}", x, weight, bias)

    def norm(self, name: str, x: str, size: int = 0) -> str:
        """Return the norm of vectors, H long unless `size` says otherwise."""
        g, norm = self.g, self.encoder.norm
        shape = (size or self.encoder.hidden_size,)
        g.scope(name)
        scale = g.weight(f"{name}.weight", self.weights.take(f"{name}.weight", shape))
        if norm.kind == "rms":
            wide = g.widen(x)
            squares = g.op("ReduceMean", g.op("Mul", wide, wide), g.constant([-1]), keepdims=1)
            root = g.op("Sqrt", g.op("Add", squares, g.constant(norm.epsilon, np.float32)))
            return g.narrow(g.op("Mul", g.op("Div", wide, root), scale))
        bias = [g.weight(f"{name}.bias", self.weights.take(f"{name}.bias", shape))] if norm.bias else []
        return g.narrow(g.op("LayerNormalization", g.widen(x), scale, *bias, axis=-1, epsilon=norm.epsilon))

    def activation(self, name: str, x: str) -> str:
        """Return one of transformers' ACT2FN or of torch's modules; `gelu` is the erf form."""
        g = self.g
        if name == "gelu":
            return g.op("Gelu", x)
        if name in ("gelu_new", "gelu_fast", "gelu_pytorch_tanh"):
            return g.op("Gelu", x, approximate="tanh")
        if name in ("silu", "swish"):
            return g.op("Mul", x, g.op("Sigmoid", x))
        if name == "identity":
            return x
        return g.op({"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "leaky_relu": "LeakyRelu"}[name], x)


def suffix(layer: Linear) -> str:
    """Return what tells the parts of a stored weight from each other in names."""
    return f".{layer.weight.part}" if layer.weight.parts > 1 else ""
