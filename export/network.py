"""BERT as an ONNX graph that never computes a padded position.

Inputs, INT32 [K]: `input_ids`, `attention_mask`, `token_type_ids`, `pooling_mask`, the padded rows of all requests
laid end to end, and `row_shape` FP32 [rows, 1], each row's padded length, so K is their sum. This is what Triton's
ragged batching hands over; a padded [N, S] batch is the same with K = N*S.

The T positions where attention_mask is 1 are taken out first. Embeddings, projections, feed-forward layers and norms
run on [T, H]; only attention goes through [rows, longest, H], by one Gather there and one back. A token attends to
the tokens of its row whose pooling_mask is 1. Where a row has none, it attends to all of them, as an additive
mask does (bert-as-service's -10000).

Outputs, with D = H * number of layers asked for: `token_embeddings` FP32 [K, D], zero at padding; `pooled` FP32
[rows, 4, D], that is mean and max over pooling_mask (zero over nothing), first and last real token; and, if asked for,
`pooler_output` FP32 [rows, H], BERT's own tanh pooler over the last layer's first token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from .checkpoint import BertConfig
from .errors import ExportError
from .graph import Graph
from .weights import Weights

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pooling_mask")
REDUCTIONS = ("mean", "max", "first", "last")

# Below any activation, and finite: softmax gives it exactly 0 and a row of nothing else stays free of NaN.
LOWEST = -1e30


def layer_indices(layers: Sequence[int], count: int) -> list[int]:
    """Resolves Python indices over the outputs of `count` encoder layers (0 is the first layer's, -1 the last's).

    Raises:
        ExportError: no layer is asked for, or an index is out of range.
    """
    if not layers:
        raise ExportError("no layer asked for: give at least one, for example --layers -1")
    for layer in layers:
        if not -count <= layer < count:
            raise ExportError(f"layer {layer} does not exist: this checkpoint has {count}, so {-count} to {count - 1}")
    return [layer % count for layer in layers]


def build(config: BertConfig, weights: Weights, layers: Sequence[int] = (-1,), pooler: bool = False) -> ModelProto:
    """Writes the network of a checkpoint.

    Args:
        config: The checkpoint's sizes.
        weights: Its arrays, by the names that transformers' BertModel gives them.
        layers: Encoder layers whose states are concatenated on the last axis, in this order. Layers above the highest
            are left out, unless the pooler, which reads the last one, is wanted.
        pooler: Whether to add `pooler_output`.

    Raises:
        ExportError: a layer is out of range, or a weight is missing or has another shape.
    """
    wanted = layer_indices(layers, config.num_hidden_layers)
    depth = config.num_hidden_layers if pooler else max(wanted) + 1
    g = Graph("bert")
    rows = _rows(g)
    states: list[str] = []
    x = _embeddings(g, config, weights, rows)
    for index in range(depth):
        x = _layer(g, config, weights, rows, index, x)
        states.append(x)
    g.scope("reduce")
    chosen = [states[index] for index in wanted]
    features = chosen[0] if len(chosen) == 1 else g.op("Concat", *chosen, axis=-1)
    _reduce(g, rows, features, config.hidden_size * len(wanted))
    if pooler:
        _pooler(g, config, weights, rows, states[-1])
    limits = {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
    }
    return g.model(__doc__ or "", {name: str(limit) for name, limit in limits.items()})


@dataclass(frozen=True)
class _Rows:
    """Where the tokens of a batch stand: all INT64 but `pools` and the masks."""

    kept: str  # [T] place of each real token in K
    position: str  # [T] its place in its row
    first: str  # [rows] a row's first token, counted in T; T for a row of none
    last: str  # [rows] its last token; T for a row of none
    slot: str  # [rows, longest] token at each place of the padded batch, 0 where there is none
    back: str  # [T] place of each token in rows * longest
    filled: str  # BOOL [rows, longest] whether there is a token
    pooled: str  # BOOL [rows, longest] whether it is pooled
    count: str  # FP32 [rows, 1] how many are pooled
    attended: str  # FP32 [rows, 1, 1, longest] 0 for tokens attended to, LOWEST for others


def _rows(g: Graph) -> _Rows:
    g.scope("rows")
    _, attention_mask, _, pooling_mask = (g.input(name, np.int32, ["K"]) for name in INPUTS)
    row_shape = g.input("row_shape", np.float32, ["rows", 1])
    stride = g.op("Squeeze", g.op("Cast", row_shape, to=7), g.constant([1]))  # 7: INT64
    row_end = g.op("CumSum", stride, g.constant(0))
    row_start = g.op("Sub", row_end, stride)
    kept = g.op("Squeeze", g.op("NonZero", attention_mask), g.constant([0]))

    # A row's tokens are those before its end that are not before its start; [T, rows] comparisons say both at once.
    place_of_token, end_of_row = g.op("Unsqueeze", kept, g.constant([1])), g.op("Unsqueeze", row_end, g.constant([0]))
    passed = g.op("GreaterOrEqual", place_of_token, end_of_row)
    row = g.op("ReduceSum", g.op("Cast", passed, to=7), g.constant([1]), keepdims=0)
    end = g.op("ReduceSum", g.op("Cast", g.op("Not", passed), to=7), g.constant([0]), keepdims=0)
    before_last = g.op("Slice", end, g.constant([0]), g.constant([-1]))
    start = g.op("Concat", g.constant([0]), before_last, axis=0)
    length = g.op("Sub", end, start)
    position = g.op("Sub", kept, g.op("Gather", row_start, row))

    longest = g.op("ReduceMax", length, keepdims=0)
    place = g.op("Unsqueeze", g.op("Range", g.constant(0), longest, g.constant(1)), g.constant([0]))
    filled = g.op("Less", place, g.op("Unsqueeze", length, g.constant([1])))
    column = g.op("Unsqueeze", start, g.constant([1]))
    slot = g.op("Where", filled, g.op("Add", column, place), g.constant(0))
    total = g.op("Shape", kept)
    some = g.op("Greater", length, g.constant(0))
    index = g.op("Range", g.constant(0), g.op("Squeeze", total), g.constant(1))
    in_row = g.op("Sub", index, g.op("Gather", start, row))
    back = g.op("Add", g.op("Mul", row, longest), in_row)

    pools = g.op("Cast", g.op("Gather", pooling_mask, kept), to=9)  # 9: BOOL
    pooled = g.op("And", filled, g.op("Gather", pools, slot))
    count = g.op("ReduceSum", g.op("Cast", pooled, to=1), g.constant([1]), keepdims=1)  # 1: FLOAT
    nothing = g.op("Equal", count, g.constant(0, np.float32))
    attends = g.op("Or", pooled, g.op("And", filled, nothing))
    bias = g.op("Where", attends, g.constant(0, np.float32), g.constant(LOWEST, np.float32))
    return _Rows(
        kept=kept,
        position=position,
        first=g.op("Where", some, start, total),
        last=g.op("Where", some, g.op("Sub", end, g.constant(1)), total),
        slot=slot,
        back=back,
        filled=filled,
        pooled=pooled,
        count=count,
        attended=g.op("Unsqueeze", bias, g.constant([1, 2])),
    )


def _embeddings(g: Graph, config: BertConfig, weights: Weights, rows: _Rows) -> str:
    g.scope("embeddings")
    hidden = config.hidden_size

    def table(name: str, size: int) -> str:
        name = f"embeddings.{name}.weight"
        return g.weight(name, weights.take(name, (size, hidden)))

    words = g.op("Gather", table("word_embeddings", config.vocab_size), g.op("Gather", "input_ids", rows.kept))
    positions = g.op("Gather", table("position_embeddings", config.max_position_embeddings), rows.position)
    kinds = g.op(
        "Gather", table("token_type_embeddings", config.type_vocab_size), g.op("Gather", "token_type_ids", rows.kept)
    )
    x = g.op("Add", g.op("Add", words, kinds), positions)
    return _norm(g, config, weights, "embeddings.LayerNorm", x)


def _layer(g: Graph, config: BertConfig, weights: Weights, rows: _Rows, index: int, x: str) -> str:
    """One encoder layer, [T, H] to [T, H]."""
    hidden, inner = config.hidden_size, config.intermediate_size
    name = f"encoder.layer.{index}"
    context = _attention(g, config, weights, rows, f"{name}.attention.self", x)
    y = _linear(g, weights, f"{name}.attention.output.dense", context, hidden, hidden)
    x = _norm(g, config, weights, f"{name}.attention.output.LayerNorm", g.op("Add", y, x))
    y = _linear(g, weights, f"{name}.intermediate.dense", x, hidden, inner)
    y = _linear(g, weights, f"{name}.output.dense", _activation(g, config.hidden_act, y), inner, hidden)
    return _norm(g, config, weights, f"{name}.output.LayerNorm", g.op("Add", y, x))


def _attention(g: Graph, config: BertConfig, weights: Weights, rows: _Rows, name: str, x: str) -> str:
    """Multi-head attention, [T, H] to [T, H], without the output projection."""
    g.scope(name)
    hidden, heads = config.hidden_size, config.num_attention_heads
    width = hidden // heads
    parts = [weights.take(f"{name}.{part}.weight", (hidden, hidden)) for part in ("query", "key", "value")]
    biases = [weights.take(f"{name}.{part}.bias", (hidden,)) for part in ("query", "key", "value")]
    qkv_weight = g.weight(f"{name}.qkv.weight", np.concatenate(parts))
    qkv_bias = g.weight(f"{name}.qkv.bias", np.concatenate(biases))
    qkv = g.op("Gemm", x, qkv_weight, qkv_bias, transB=1)  # [T, 3H]

    padded = g.op("Gather", qkv, rows.slot)  # [rows, longest, 3H]
    by_head = g.op("Reshape", padded, g.constant([0, 0, 3, heads, width]))
    query, key, value = g.split(g.op("Transpose", by_head, perm=[2, 0, 3, 1, 4]), 3, axis=0)
    first = g.constant([0])
    query, key, value = (g.op("Squeeze", part, first) for part in (query, key, value))  # [rows, heads, longest, width]
    # On the query, which is smaller than the scores; in its weights it would round every one of them.
    query = g.op("Mul", query, g.constant(width**-0.5, np.float32))
    scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2]))
    shares = g.op("Softmax", g.op("Add", scores, rows.attended), axis=-1)
    context = g.op("Transpose", g.op("MatMul", shares, value), perm=[0, 2, 1, 3])  # [rows, longest, heads, width]
    return g.op("Gather", g.op("Reshape", context, g.constant([-1, hidden])), rows.back)


def _reduce(g: Graph, rows: _Rows, features: str, size: int) -> None:
    """Writes `token_embeddings` and `pooled` from the states asked for, [T, D]."""
    nothing = g.constant(np.zeros((1, size)), np.float32)  # row T, for places without a token
    padded = g.op("Concat", features, nothing, axis=0)
    total = g.op("Shape", rows.kept)

    present = g.op("Cast", "attention_mask", to=9)
    order = g.op("Sub", g.op("CumSum", g.op("Cast", "attention_mask", to=7), g.constant(0)), g.constant(1))
    tokens = g.op("Gather", padded, g.op("Where", present, order, total))
    g.output("token_embeddings", tokens, np.float32, ["K", size])

    states = g.op("Gather", padded, g.op("Where", rows.filled, rows.slot, total))  # [rows, longest, D]
    pooled = g.op("Unsqueeze", rows.pooled, g.constant([2]))
    one = g.constant(1, np.float32)
    zero = g.constant(0, np.float32)
    weight = g.op("Cast", pooled, to=1)
    mean = g.op(
        "Div",
        g.op("ReduceSum", g.op("Mul", states, weight), g.constant([1]), keepdims=0),
        g.op("Max", rows.count, one),
    )
    lowest = g.constant(LOWEST, np.float32)
    highest = g.op("ReduceMax", g.op("Where", pooled, states, lowest), g.constant([1]), keepdims=0)
    highest = g.op("Where", g.op("Greater", rows.count, zero), highest, zero)
    first = g.op("Gather", padded, rows.first)
    last = g.op("Gather", padded, rows.last)
    middle = g.constant([1])
    g.output(
        "pooled",
        g.op("Concat", *(g.op("Unsqueeze", part, middle) for part in (mean, highest, first, last)), axis=1),
        np.float32,
        ["rows", len(REDUCTIONS), size],
    )


def _pooler(g: Graph, config: BertConfig, weights: Weights, rows: _Rows, x: str) -> None:
    g.scope("pooler")
    nothing = g.constant(np.zeros((1, config.hidden_size)), np.float32)
    first = g.op("Gather", g.op("Concat", x, nothing, axis=0), rows.first)
    y = _linear(g, weights, "pooler.dense", first, config.hidden_size, config.hidden_size)
    g.output("pooler_output", g.op("Tanh", y), np.float32, ["rows", config.hidden_size])


def _linear(g: Graph, weights: Weights, name: str, x: str, size_in: int, size_out: int) -> str:
    g.scope(name)
    weight = g.weight(f"{name}.weight", weights.take(f"{name}.weight", (size_out, size_in)))
    bias = g.weight(f"{name}.bias", weights.take(f"{name}.bias", (size_out,)))
    return g.op("Gemm", x, weight, bias, transB=1)


def _norm(g: Graph, config: BertConfig, weights: Weights, name: str, x: str) -> str:
    g.scope(name)
    scale = g.weight(f"{name}.weight", weights.take(f"{name}.weight", (config.hidden_size,)))
    bias = g.weight(f"{name}.bias", weights.take(f"{name}.bias", (config.hidden_size,)))
    return g.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=config.layer_norm_eps)


def _activation(g: Graph, name: str, x: str) -> str:
    """The activations of transformers' ACT2FN that BERT checkpoints use; `gelu` is the erf form."""
    if name == "gelu":
        return g.op("Gelu", x)
    if name in ("gelu_new", "gelu_fast", "gelu_pytorch_tanh"):
        return g.op("Gelu", x, approximate="tanh")
    if name in ("silu", "swish"):
        return g.op("Mul", x, g.op("Sigmoid", x))
    return g.op({"relu": "Relu", "tanh": "Tanh"}[name], x)
