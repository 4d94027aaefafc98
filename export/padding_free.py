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

import numpy as np

from .graph import Graph
from .layout import BOOL, FLOAT, INPUTS, INT64, LOWEST, REDUCTIONS, Array


class PaddingFree:
    """Tokens without padding; see `layout.Layout`.

    Values: `_kept` [T] place of each real token in K; `_position` [T] its place in its row; `_slot` [rows, longest]
    the token at each place of the padded batch, 0 where there is none; `_back` [T] place of each token in
    rows * longest; `_first` and `_last` [rows] a row's first and last token, T for a row of none; `_filled` and
    `_pooled` BOOL [rows, longest] whether there is a token, and whether it is pooled; `_count` FP32 [rows, 1] how many
    are pooled.
    """

    rows = "rows"

    def __init__(self, g: Graph) -> None:
        g.scope("rows")
        _, attention_mask, _, pooling_mask = (g.input(name, np.int32, ["K"]) for name in INPUTS)
        row_shape = g.input("row_shape", np.float32, ["rows", 1])
        stride = g.op("Squeeze", g.op("Cast", row_shape, to=INT64), g.constant([1]))
        row_end = g.op("CumSum", stride, g.constant(0))
        row_start = g.op("Sub", row_end, stride)
        kept = g.op("Squeeze", g.op("NonZero", attention_mask), g.constant([0]))

        # A row's tokens are those before its end that are not before its start; [T, rows] comparisons say both at once.
        place_of_token = g.op("Unsqueeze", kept, g.constant([1]))
        end_of_row = g.op("Unsqueeze", row_end, g.constant([0]))
        passed = g.op("GreaterOrEqual", place_of_token, end_of_row)
        row = g.op("ReduceSum", g.op("Cast", passed, to=INT64), g.constant([1]), keepdims=0)
        end = g.op("ReduceSum", g.op("Cast", g.op("Not", passed), to=INT64), g.constant([0]), keepdims=0)
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

        pools = g.op("Cast", g.op("Gather", pooling_mask, kept), to=BOOL)
        pooled = g.op("And", filled, g.op("Gather", pools, slot))
        count = g.op("ReduceSum", g.op("Cast", pooled, to=FLOAT), g.constant([1]), keepdims=1)
        nothing = g.op("Equal", count, g.constant(0, np.float32))
        attends = g.op("Or", pooled, g.op("And", filled, nothing))
        bias = g.op("Where", attends, g.constant(0, np.float32), g.constant(LOWEST, np.float32))

        self._g = g
        self._kept, self._position = kept, position
        self._first = g.op("Where", some, start, total)
        self._last = g.op("Where", some, g.op("Sub", end, g.constant(1)), total)
        self._slot, self._back = slot, back
        self._filled, self._pooled, self._count = filled, pooled, count
        self.attended = g.op("Unsqueeze", bias, g.constant([1, 2]))

    def read(self, name: str) -> str:
        """[T]."""
        return self._g.op("Gather", name, self._kept)

    def positions(self, table: str) -> str:
        """[T, H]."""
        return self._g.op("Gather", table, self._position)

    def product(self, name: str, x: str, weight: Array, bias: Array) -> str:
        """[T, in] to [T, out]."""
        g = self._g
        return g.op("Gemm", x, g.parameter(f"{name}.weight", weight), g.parameter(f"{name}.bias", bias), transB=1)

    def to_rows(self, x: str) -> str:
        """[T, C] to [rows, longest, C]; places without a token hold the first one's vector, which nobody attends to."""
        return self._g.op("Gather", x, self._slot)

    def from_rows(self, x: str, size: int) -> str:
        """To [T, size]."""
        g = self._g
        return g.op("Gather", g.op("Reshape", x, g.constant([-1, size])), self._back)

    def first(self, x: str, size: int) -> str:
        """[T, size] to [rows, size]."""
        g = self._g
        nothing = g.constant(np.zeros((1, size)), g.dtype)
        return g.op("Gather", g.op("Concat", x, nothing, axis=0), self._first)

    def write(self, features: str, size: int) -> None:
        """From [T, size]."""
        g = self._g
        nothing = g.constant(np.zeros((1, size)), np.float32)  # row T, for places without a token
        padded = g.op("Concat", features, nothing, axis=0)
        total = g.op("Shape", self._kept)

        present = g.op("Cast", "attention_mask", to=BOOL)
        order = g.op("Sub", g.op("CumSum", g.op("Cast", "attention_mask", to=INT64), g.constant(0)), g.constant(1))
        tokens = g.op("Gather", padded, g.op("Where", present, order, total))
        g.output("token_embeddings", tokens, np.float32, ["K", size])

        states = g.op("Gather", padded, g.op("Where", self._filled, self._slot, total))  # [rows, longest, D]
        pooled = g.op("Unsqueeze", self._pooled, g.constant([2]))
        one = g.constant(1, np.float32)
        zero = g.constant(0, np.float32)
        weight = g.op("Cast", pooled, to=FLOAT)
        mean = g.op(
            "Div",
            g.op("ReduceSum", g.op("Mul", states, weight), g.constant([1]), keepdims=0),
            g.op("Max", self._count, one),
        )
        lowest = g.constant(LOWEST, np.float32)
        highest = g.op("ReduceMax", g.op("Where", pooled, states, lowest), g.constant([1]), keepdims=0)
        highest = g.op("Where", g.op("Greater", self._count, zero), highest, zero)
        first = g.op("Gather", padded, self._first)
        last = g.op("Gather", padded, self._last)
        middle = g.constant([1])
        g.output(
            "pooled",
            g.op("Concat", *(g.op("Unsqueeze", part, middle) for part in (mean, highest, first, last)), axis=1),
            np.float32,
            ["rows", len(REDUCTIONS), size],
        )
