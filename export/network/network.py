"""BERT as an ONNX graph, written from a checkpoint's arrays.

The layers are written here once, for both ways of laying tokens out: `padding_free`, the default, which never computes
a padded position, and `padded`, for TensorRT. Their docstrings say what goes in and what comes out.

In half precision weights and activations are FP16; norms, softmax and what is made of the last states (`pooled`) are
FP32, and so are the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto

from export.checkpoint.checkpoint import BertConfig
from export.checkpoint.weights import Weights
from export.errors import ExportError
from export.network import padded, padding_free
from export.network.graph import Graph
from export.network.layout import Layout


def layer_indices(layers: Sequence[int], count: int) -> list[int]:
    """Resolve Python indices over the outputs of `count` encoder layers (0 is the first layer's, -1 the last's).

    Raises:
        ExportError: no layer is asked for, or an index is out of range.
    """
    if not layers:
        raise ExportError("no layer asked for: give at least one, for example --layers -1")
    for layer in layers:
        if not -count <= layer < count:
            raise ExportError(f"layer {layer} does not exist: this checkpoint has {count}, so {-count} to {count - 1}")
    return [layer % count for layer in layers]


def build(
    config: BertConfig,
    weights: Weights,
    layers: Sequence[int] = (-1,),
    pooler: bool = False,
    is_padded: bool = False,
    half: bool = False,
) -> ModelProto:
    """Write the network of a checkpoint.

    Args:
        config: The checkpoint's sizes.
        weights: Its arrays, by the names that transformers' BertModel gives them.
        layers: Encoder layers whose states are concatenated on the last axis, in this order. Layers above the highest
            are left out, unless the pooler, which reads the last one, is wanted.
        pooler: Whether to add `pooler_output`.
        is_padded: Whether tokens stand in padded rows, as `padded` has them.
        half: Whether weights and activations are FP16.

    Raises:
        ExportError: a layer is out of range, or a weight is missing or has another shape.
    """
    form = padded if is_padded else padding_free
    g = Graph("bert", half)
    layout: Layout = padded.Padded(g, config) if is_padded else padding_free.PaddingFree(g, config)
    _Bert(g, config, weights, layout).write(layers, pooler)
    limits = {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
    }
    return g.model(form.__doc__ or "", {name: str(limit) for name, limit in limits.items()})


class _Bert:
    """BERT's layers in a graph: embeddings, encoder, pooler."""

    def __init__(self, g: Graph, config: BertConfig, weights: Weights, layout: Layout) -> None:
        self._g = g
        self._config = config
        self._weights = weights
        self._layout = layout

    def write(self, layers: Sequence[int], pooler: bool) -> None:
        """Write everything from the inputs to the outputs."""
        g, config = self._g, self._config
        wanted = layer_indices(layers, config.num_hidden_layers)
        depth = config.num_hidden_layers if pooler else max(wanted) + 1
        states: list[str] = []
        x = self._embeddings()
        for index in range(depth):
            x = self._layer(index, x)
            states.append(x)
        g.scope("reduce")
        chosen = [states[index] for index in wanted]
        features = chosen[0] if len(chosen) == 1 else g.op("Concat", *chosen, axis=-1)
        self._layout.write(g.widen(features), config.hidden_size * len(wanted))
        if pooler:
            self._pooler(states[-1])

    def _embeddings(self) -> str:
        g, config = self._g, self._config
        g.scope("embeddings")

        def table(name: str, size: int) -> str:
            name = f"embeddings.{name}.weight"
            return g.parameter(name, self._weights.take(name, (size, config.hidden_size)))

        words = table("word_embeddings", config.vocab_size)
        words = g.op("Gather", words, self._layout.read("input_ids"))
        positions = self._layout.positions(table("position_embeddings", config.max_position_embeddings))
        kinds = table("token_type_embeddings", config.type_vocab_size)
        kinds = g.op("Gather", kinds, self._layout.read("token_type_ids"))
        x = g.op("Add", g.op("Add", words, kinds), positions)
        return self._norm("embeddings.LayerNorm", x)

    def _layer(self, index: int, x: str) -> str:
        """One encoder layer, [..., H] to [..., H]."""
        g, config = self._g, self._config
        hidden, inner = config.hidden_size, config.intermediate_size
        name = f"encoder.layer.{index}"
        context = self._attention(f"{name}.attention.self", x)
        y = self._linear(f"{name}.attention.output.dense", context, hidden, hidden)
        x = self._norm(f"{name}.attention.output.LayerNorm", g.op("Add", y, x))
        y = self._linear(f"{name}.intermediate.dense", x, hidden, inner)
        y = self._linear(f"{name}.output.dense", _activation(g, config.hidden_act, y), inner, hidden)
        return self._norm(f"{name}.output.LayerNorm", g.op("Add", y, x))

    def _attention(self, name: str, x: str) -> str:
        """Multi-head attention, [..., H] to [..., H], without the output projection."""
        g = self._g
        g.scope(name)
        hidden, heads = self._config.hidden_size, self._config.num_attention_heads
        width = hidden // heads
        matrices = [self._weights.take(f"{name}.{part}.weight", (hidden, hidden)) for part in ("query", "key", "value")]
        biases = [self._weights.take(f"{name}.{part}.bias", (hidden,)) for part in ("query", "key", "value")]
        qkv = self._layout.product(f"{name}.qkv", x, np.concatenate(matrices), np.concatenate(biases))  # [..., 3H]

        rows = self._layout.to_rows(qkv)  # [rows, longest, 3H]
        by_head = g.op("Reshape", rows, g.constant([0, 0, 3, heads, width]))
        query, key, value = g.split(g.op("Transpose", by_head, perm=[2, 0, 3, 1, 4]), 3, axis=0)
        first = g.constant([0])
        query, key, value = (g.op("Squeeze", part, first) for part in (query, key, value))
        # [rows, heads, longest, width] each. The factor is on the query, which is smaller than the scores; in its
        # weights it would round every one of them.
        query = g.op("Mul", query, g.constant(width**-0.5, g.dtype))
        scores = g.widen(g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2])))
        shares = g.narrow(g.op("Softmax", g.op("Add", scores, self._layout.attended), axis=-1))
        context = g.op("Transpose", g.op("MatMul", shares, value), perm=[0, 2, 1, 3])  # [rows, longest, heads, width]
        return self._layout.from_rows(context, hidden)

    def _pooler(self, x: str) -> None:
        g, hidden = self._g, self._config.hidden_size
        g.scope("pooler")
        y = self._linear("pooler.dense", self._layout.first(x, hidden), hidden, hidden)
        y = g.op("Add", g.widen(g.op("Tanh", y)), self._layout.spoiled)
        g.output("pooler_output", y, np.float32, [self._layout.rows, hidden])

    def _linear(self, name: str, x: str, size_in: int, size_out: int) -> str:
        self._g.scope(name)
        weight = self._weights.take(f"{name}.weight", (size_out, size_in))
        bias = self._weights.take(f"{name}.bias", (size_out,))
        return self._layout.product(name, x, weight, bias)

    def _norm(self, name: str, x: str) -> str:
        g, config = self._g, self._config
        g.scope(name)
        scale = g.weight(f"{name}.weight", self._weights.take(f"{name}.weight", (config.hidden_size,)))
        bias = g.weight(f"{name}.bias", self._weights.take(f"{name}.bias", (config.hidden_size,)))
        y = g.op("LayerNormalization", g.widen(x), scale, bias, axis=-1, epsilon=config.layer_norm_eps)
        return g.narrow(y)


def _activation(g: Graph, name: str, x: str) -> str:
    """The activations of transformers' ACT2FN that BERT checkpoints use; `gelu` is the erf form."""
    if name == "gelu":
        return g.op("Gelu", x)
    if name in ("gelu_new", "gelu_fast", "gelu_pytorch_tanh"):
        return g.op("Gelu", x, approximate="tanh")
    if name in ("silu", "swish"):
        return g.op("Mul", x, g.op("Sigmoid", x))
    return g.op({"relu": "Relu", "tanh": "Tanh"}[name], x)
