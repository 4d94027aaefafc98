"""An encoder as an ONNX graph, written from its description and a checkpoint's arrays.

Layers are written here once, for every architecture (an `Encoder` says what it is made of) and for both ways of laying
tokens out: `padding_free`, the default, which never computes a padded position, and `padded`, for TensorRT. Their
docstrings say what goes in and what comes out.

In half precision weights and activations are FP16; norms, softmax and what is made of the last states (`pooled`) are
FP32, and so are the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from onnx import ModelProto

from export.errors import ExportError
from export.network import padded, padding_free
from export.network.architectures.encoder import Classifier, Convolution, Encoder, Head, Layer, Splade, TokenVectors
from export.network.attention import Attention
from export.network.graph import Graph
from export.network.layout import INT32, INT64, REDUCTIONS, TOKEN_VECTORS, Layout, limits
from export.network.parts import Parts
from export.network.weights import Weights

# Words of the vocabulary whose logits are made at once: so many that products are fast, and [tokens, words] is small.
_VOCABULARY_BLOCK = 4096

# Of a vector that is normalised, as torch has it.
_LEAST_LENGTH = 1e-12


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
    encoder: Encoder,
    weights: Weights,
    layers: Sequence[int] = (-1,),
    pooler: bool = False,
    is_padded: bool = False,
    half: bool = False,
    reductions: Sequence[str] = REDUCTIONS,
    prompts_apart: bool = False,
    head: Head | None = None,
    beside: Mapping[str, TokenVectors] = MappingProxyType({}),
) -> ModelProto:
    """Write the network of a checkpoint.

    Args:
        encoder: What it is made of.
        weights: Its arrays, by the names that transformers' model gives them.
        layers: Layers whose states are concatenated on the last axis, in this order: the last one's behind the final
            norm, where there is one, and others' before it. Layers above the highest are left out, unless the pooler,
            which reads the last one, is wanted.
        pooler: Whether to add `pooler_output`.
        is_padded: Whether tokens stand in padded rows, as `padded` has them.
        half: Whether weights and activations are FP16.
        reductions: What `pooled` has, in this order: all of `layout.REDUCTIONS`, and any of `MORE_REDUCTIONS`.
        prompts_apart: Whether pooling_mask may be `layout.PROMPT`.
        head: What is asked for instead of vectors: of a Classifier `logits` FP32 [rows, labels]; of a Splade `indices`
            INT32 and `weights` FP32 [rows, active], the heaviest first, padded with -1 and 0 to the row that has most;
            of TokenVectors `token_vectors` alone.
        beside: What is made of each token's state in the last layer beside vectors, by the name of the output, one of
            `layout.OF_TOKENS`.

    Raises:
        ExportError: a layer is out of range, or a weight is missing or has another shape.
    """
    form = padded if is_padded else padding_free
    g = Graph(encoder.model_type, half)
    layout: Layout = (padded.Padded if is_padded else padding_free.PaddingFree)(g, encoder, prompts_apart)
    network = _Network(Parts(g, encoder, weights, layout), isinstance(head, TokenVectors) and head.silent)
    if isinstance(head, Classifier):
        network.write_logits(head)
    elif isinstance(head, Splade):
        network.write_sparse(head)
    elif head:
        network.write_token_vectors(head)
    else:
        network.write(layers, pooler, reductions, beside)
    ranges = limits(encoder, prompts_apart)
    metadata = {
        "vocab_size": ranges["input_ids"],
        "max_position_embeddings": encoder.max_positions,
        "type_vocab_size": ranges["token_type_ids"],
    }
    if prompts_apart:
        metadata["pooling_values"] = ranges["pooling_mask"]
    if encoder.adjacent:
        metadata["adjacent"] = 1  # rows may have no gap
    return g.model(form.__doc__ or "", {name: str(value) for name, value in metadata.items()})


class _Network:
    """The parts of an encoder in a graph: embeddings, layers, pooler."""

    def __init__(self, parts: Parts, silent: bool = False) -> None:
        self._parts = parts
        self._g, self._encoder, self._layout = parts.g, parts.encoder, parts.layout
        self._attention = Attention(parts, silent)

    def write(
        self, layers: Sequence[int], pooler: bool, reductions: Sequence[str], beside: Mapping[str, TokenVectors]
    ) -> None:
        """Write everything from the inputs to the outputs."""
        g, count = self._g, self._encoder.num_hidden_layers
        wanted = layer_indices(layers, count)
        states = self._states(count if pooler or beside else max(wanted) + 1)
        g.scope("reduce")
        chosen = [states[index] for index in wanted]
        features = chosen[0] if len(chosen) == 1 else g.op("Concat", *chosen, axis=-1)
        self._layout.write(g.widen(features), self._encoder.hidden_size * len(wanted), reductions)
        if pooler:
            self._pooler(states[-1])
        for name, head in beside.items():
            self._write_tokens(name, head, states[-1])

    def write_logits(self, classifier: Classifier) -> None:
        """Write everything from the inputs to the logits of a head."""
        g, layout, parts, hidden = self._g, self._layout, self._parts, self._encoder.hidden_size
        x = self._states(self._encoder.num_hidden_layers)[-1]
        g.scope("classifier")
        if classifier.pools_last:
            x = self._dense(classifier, x)
        x = layout.first(x, hidden) if classifier.pooling == "first" else g.narrow(layout.mean(g.widen(x), hidden))
        if not classifier.pools_last:
            x = self._dense(classifier, x)
        count = len(classifier.labels)
        y = g.op("Add", g.widen(parts.linear(classifier.output, x, hidden, count)), layout.spoiled)
        g.output("logits", y, np.float32, [layout.rows, count])

    def write_sparse(self, splade: Splade) -> None:
        """Write everything from the inputs to a sparse vector of each row.

        The logits of all tokens over all the vocabulary are never there at once: they are made and reduced for
        `_VOCABULARY_BLOCK` words at a time.
        """
        g, layout, parts, encoder = self._g, self._layout, self._parts, self._encoder
        hidden, size, lm = encoder.hidden_size, encoder.embedding_size or encoder.hidden_size, splade.masked_lm
        x = self._states(encoder.num_hidden_layers)[-1]
        g.scope("masked_lm")
        if lm.dense:
            x = parts.activation(lm.activation, parts.linear(lm.dense, x, hidden, size))
        if lm.norm:
            x = parts.norm(lm.norm, x, size)
        # NaN for a row with a token that is not finite, which a maximum would pass over; else 0.
        wide = g.widen(x)
        spoiled = g.op("ReduceSum", layout.sum(g.op("Sub", wide, wide), size), g.constant([1]), keepdims=1)
        weight = parts.weights.take(lm.decoder.weight.name, (encoder.vocab_size, size))
        bias = parts.weights.take(lm.decoder.bias.name, (encoder.vocab_size,)) if lm.decoder.bias else None
        blocks = []
        for start in range(0, encoder.vocab_size, _VOCABULARY_BLOCK):
            words = slice(start, start + _VOCABULARY_BLOCK)
            g.scope(f"words.{start}")
            name = f"decoder.{start}"
            y = g.widen(layout.product(name, x, weight[words], None if bias is None else bias[words]))
            count = len(weight[words])
            if splade.pooling == "sum":
                blocks.append(layout.sum(self._log1p_relu(y, splade.logs), count))
            else:  # which these keep
                blocks.append(self._log1p_relu(layout.highest(y, count), splade.logs))
        g.scope("sparse")
        whole = blocks[0] if len(blocks) == 1 else g.op("Concat", *blocks, axis=1)
        zero = g.constant(0, np.float32)
        active = g.op("ReduceSum", g.op("Cast", g.op("Greater", whole, zero), to=INT64), g.constant([1]), keepdims=0)
        most = g.op("Max", g.op("ReduceMax", active, g.constant([0]), keepdims=1), g.constant([1]))
        weights, indices = g.outputs_of("TopK", 2, whole, most, axis=1, largest=1, sorted=1)
        there = g.op("Greater", weights, zero)
        indices = g.op("Cast", g.op("Where", there, indices, g.constant(-1)), to=INT32)
        g.output("indices", indices, np.int32, [layout.rows, "active"])
        weights = g.op("Add", weights, g.op("Add", layout.spoiled, spoiled))
        g.output("weights", weights, np.float32, [layout.rows, "active"])

    def write_token_vectors(self, head: TokenVectors) -> None:
        """Write everything from the inputs to a vector of late interaction for each token."""
        self._write_tokens(TOKEN_VECTORS, head, self._states(self._encoder.num_hidden_layers)[-1])

    def _write_tokens(self, name: str, head: TokenVectors, x: str) -> None:
        """Write an output of tokens, of their states."""
        g, parts = self._g, self._parts
        for part in head.projections:
            y = parts.activation(part.activation, parts.linear(part.linear, x, part.size_in, part.size))
            if part.adds:
                beside = parts.linear(part.residual, x, part.size_in, part.size) if part.residual else x
                y = g.op("Add", y, beside)
            x = y
        g.scope("tokens")
        x = g.widen(x)
        if head.normalize:
            length = g.op("ReduceL2", x, g.constant([-1]), keepdims=1)
            x = g.op("Div", x, g.op("Max", length, g.constant(_LEAST_LENGTH, np.float32)))
        sizes = [self._encoder.hidden_size, *(part.size for part in head.projections)]
        self._layout.write_tokens(name, x, sizes[-1])

    def _log1p_relu(self, x: str, logs: int) -> str:
        g = self._g
        x = g.op("Relu", x)
        for _ in range(logs):
            x = g.op("Log", g.op("Add", x, g.constant(1, np.float32)))
        return x

    def _dense(self, classifier: Classifier, x: str) -> str:
        """What stands before the last layer of a head."""
        if classifier.dense:
            hidden = self._encoder.hidden_size
            x = self._parts.activation(classifier.activation, self._parts.linear(classifier.dense, x, hidden, hidden))
        return self._parts.norm(classifier.norm, x) if classifier.norm else x

    def _states(self, depth: int) -> list[str]:
        """The states behind each of the first layers."""
        encoder = self._encoder
        states: list[str] = []
        x = embeddings = self._embeddings()
        for index, layer in enumerate(encoder.layers[:depth]):
            x = self._layer(layer, x)
            if index == 0 and encoder.convolution:
                x = self._convolution(encoder.convolution, embeddings, x)
            if index == encoder.num_hidden_layers - 1 and encoder.final_norm:
                x = self._parts.norm(encoder.final_norm, x)
            states.append(x)
        return states

    def _embeddings(self) -> str:
        g, encoder, layout, parts = self._g, self._encoder, self._layout, self._parts
        g.scope("embeddings")
        size = encoder.embedding_size or encoder.hidden_size
        x = g.op("Gather", parts.table(encoder.words, encoder.vocab_size, size), layout.read("input_ids"))
        positions = self._positions(size)
        if encoder.types:
            kinds = parts.table(encoder.types, encoder.type_vocab_size, size)
            x = g.op("Add", x, g.op("Gather", kinds, layout.read("token_type_ids")))
        if positions:
            x = g.op("Add", x, positions)
        if encoder.constant:
            name, rows = encoder.constant
            x = g.op("Add", x, g.op("Gather", parts.table(name, rows, size), g.constant(0)))
        if encoder.early_projection:
            x = parts.linear(encoder.early_projection, x, size, encoder.hidden_size)
        if encoder.embeddings_norm:
            x = parts.norm(encoder.embeddings_norm, x, encoder.hidden_size if encoder.early_projection else size)
        if encoder.projection:
            x = parts.linear(encoder.projection, x, size, encoder.hidden_size)
        return x

    def _positions(self, size: int) -> str | None:
        positions = self._encoder.positions
        if not positions:
            return None
        table = self._parts.table(positions.name, positions.rows, size)
        if positions.padding_id is None:
            return self._layout.by_place(table)
        return self._layout.behind_padding(table, positions.padding_id)

    def _layer(self, layer: Layer, x: str) -> str:
        """One layer, [..., H] to [..., H]."""
        g, encoder, parts = self._g, self._encoder, self._parts
        hidden, inner = encoder.hidden_size, encoder.intermediate_size
        before = encoder.pre_norm
        y = parts.norm(layer.attention_norm, x) if before and layer.attention_norm else x
        y = self._attention.write(layer, y)
        y = parts.linear(layer.attention_output, y, encoder.num_attention_heads * encoder.width, hidden)
        x = g.op("Add", y, x)
        if not before and layer.attention_norm:
            x = parts.norm(layer.attention_norm, x)
        y = parts.norm(layer.norm, x) if before else x
        up = parts.linear(layer.up, y, hidden, inner)
        if layer.gate:
            gate = parts.activation(encoder.hidden_act, parts.linear(layer.gate, y, hidden, inner))
            y = g.op("Mul", gate, up)
        else:
            y = parts.activation(encoder.hidden_act, up)
        y = parts.linear(layer.down, y, inner, hidden)
        x = g.op("Add", y, x)
        return x if before else parts.norm(layer.norm, x)

    def _convolution(self, convolution: Convolution, x: str, residual: str) -> str:
        """The convolution of `x`, as a product of each token's neighbours, added to the output of the first layer."""
        g, hidden, layout, name = self._g, self._encoder.hidden_size, self._layout, convolution.name
        size, groups = convolution.size, convolution.groups
        g.scope(f"{name}.conv")
        rows = g.widen(g.op("Mul", layout.to_rows(x), layout.inside()))  # beside a row there is nothing
        rows = g.narrow(g.op("Pad", rows, g.constant([0, size // 2, 0, 0, size // 2, 0])))
        neighbours = []
        for place in range(size):
            start = g.constant([place])
            neighbours.append(g.op("Slice", rows, start, g.op("Add", layout.longest, start), g.constant([1])))
        beside = layout.from_rows(g.op("Concat", *neighbours, axis=2), size * hidden)
        weights = self._parts.weights
        weight = weights.take(f"{name}.conv.weight", (hidden, hidden // groups, size))
        whole = np.zeros((groups, hidden // groups, size, groups, hidden // groups), np.float32)
        for group, part in enumerate(np.split(weight, groups)):  # each sees the channels of its group
            whole[group, :, :, group] = part.transpose(0, 2, 1)
        bias = weights.take(f"{name}.conv.bias", (hidden,))
        y = layout.product(f"{name}.conv", beside, whole.reshape(hidden, size * hidden), bias)
        y = g.op("Add", residual, self._parts.activation(convolution.activation, y))
        return self._parts.norm(f"{name}.LayerNorm", y)

    def _pooler(self, x: str) -> None:
        g, hidden, pooler = self._g, self._encoder.hidden_size, self._encoder.pooler
        assert pooler
        g.scope("pooler")
        y = self._parts.linear(pooler, self._layout.first(x, hidden), hidden, hidden)
        y = g.op("Add", g.widen(g.op("Tanh", y)), self._layout.spoiled)
        g.output("pooler_output", y, np.float32, [self._layout.rows, hidden])
