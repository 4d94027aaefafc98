"""BERT as an ONNX graph over padded rows, whose shapes depend on N and S alone, as TensorRT wants it.

Inputs, INT32 [N, S]: `input_ids`, `attention_mask`, `token_type_ids`, `pooling_mask`. Outputs, with D = H * number of
layers asked for: `token_embeddings` FP32 [N, S, D], zero at padding; `pooled` FP32 [N, 4, D], that is mean and max over
pooling_mask (zero over nothing), first and last real token; and, if asked for, `pooler_output` FP32 [N, H]. A token
attends to the tokens of its row whose pooling_mask is 1; where a row has none, to all of them.

The numbers are those of the padding-free network (`padding_free`), row by row, NaN for a row that is out of range
included.
"""

from __future__ import annotations

import numpy as np

from export.checkpoint.checkpoint import BertConfig
from export.network.graph import Graph
from export.network.layout import BOOL, FLOAT, INPUTS, LOWEST, REDUCTIONS, Array, limits

# Beyond any place in a row, and exact in FP32.
_NOWHERE = 1 << 20


class Padded:
    """Tokens in padded rows; see `layout.Layout`.

    Values, all [N, S]: `_nearest` the inputs, by name, with the nearest value in range where one is out of it;
    `_filled` and `_pooled` BOOL, whether there is a token, and whether it is pooled, of which a wrong row has none;
    `_first` and `_last` FP32, 1 at a row's first and last token. `_count` FP32 [N, 1], how many are pooled.
    """

    rows = "N"

    def __init__(self, g: Graph, config: BertConfig) -> None:
        g.scope("rows")
        self._g = g
        self._nearest = {}
        in_range = []
        for name, limit in limits(config).items():
            value = g.input(name, np.int32, ["N", "S"])
            lowered = g.op("Min", value, g.constant(limit - 1, np.int32))
            self._nearest[name] = g.op("Max", lowered, g.constant(0, np.int32))
            in_range.append(g.op("Cast", g.op("Equal", value, self._nearest[name]), to=FLOAT))
        least = g.op("ReduceMin", g.op("Min", *in_range), g.constant([1]), keepdims=1)
        right = g.op("Cast", least, to=BOOL)  # [N, 1]
        self.spoiled = g.op("Where", right, g.constant(0, np.float32), g.constant(np.nan, np.float32))

        self._length = g.op("Gather", g.op("Shape", INPUTS[0]), g.constant([1]))  # [1]
        self._filled = g.op("And", g.op("Cast", self.read("attention_mask"), to=BOOL), right)
        self._pooled = g.op("And", self._filled, g.op("Cast", self.read("pooling_mask"), to=BOOL))
        self._count = g.op("ReduceSum", g.op("Cast", self._pooled, to=FLOAT), g.constant([1]), keepdims=1)
        nothing = g.op("Equal", self._count, g.constant(0, np.float32))
        attends = g.op("Or", self._pooled, g.op("And", self._filled, nothing))
        bias = g.op("Where", attends, g.constant(0, np.float32), g.constant(LOWEST, np.float32))
        self.attended = g.op("Unsqueeze", bias, g.constant([1, 2]))

        place = g.op("Range", g.constant(0), g.op("Squeeze", self._length), g.constant(1))
        place = g.op("Cast", g.op("Unsqueeze", place, g.constant([0])), to=FLOAT)  # [1, S]
        from_left = g.op("Where", self._filled, place, g.constant(_NOWHERE, np.float32))
        from_right = g.op("Where", self._filled, place, g.constant(-1, np.float32))
        lowest = g.op("ReduceMin", from_left, g.constant([1]), keepdims=1)
        highest = g.op("ReduceMax", from_right, g.constant([1]), keepdims=1)
        self._first = g.op("Cast", g.op("Equal", place, lowest), to=FLOAT)
        self._last = g.op("Cast", g.op("Equal", place, highest), to=FLOAT)

    def read(self, name: str) -> str:
        """[N, S]."""
        return self._nearest[name]

    def positions(self, table: str) -> str:
        """[S, H]: a token's position is its place in the row, whatever stands before it."""
        g = self._g
        return g.op("Slice", table, g.constant([0]), self._length, g.constant([0]))

    def product(self, name: str, x: str, weight: Array, bias: Array) -> str:
        """[N, S, in] to [N, S, out], or [N, in] to [N, out]."""
        g = self._g
        y = g.op("MatMul", x, g.parameter(f"{name}.weight", weight.T))
        return g.op("Add", y, g.parameter(f"{name}.bias", bias))

    def to_rows(self, x: str) -> str:
        """[N, S, C], as it is."""
        return x

    def from_rows(self, x: str, size: int) -> str:
        """[N, S, heads, width] to [N, S, size]."""
        return self._g.op("Reshape", x, self._g.constant([0, 0, size]))

    def first(self, x: str, size: int) -> str:
        """[N, S, size] to [N, size], by a product with 1 at the first token and 0 elsewhere."""
        g = self._g
        row = g.narrow(g.op("Unsqueeze", self._first, g.constant([1])))
        return g.op("Squeeze", g.op("MatMul", row, x), g.constant([1]))

    def write(self, features: str, size: int) -> None:
        """From [N, S, size]."""
        g = self._g
        last_axis, middle = g.constant([2]), g.constant([1])
        outside = g.op("Unsqueeze", self.spoiled, last_axis)
        tokens = g.op("Where", g.op("Unsqueeze", self._filled, last_axis), features, outside)
        g.output("token_embeddings", tokens, np.float32, ["N", "S", size])

        # Mean, first and last in one product of [N, 3, S] and [N, S, D].
        share = g.op("Div", g.op("Cast", self._pooled, to=FLOAT), g.op("Max", self._count, g.constant(1, np.float32)))
        shares = g.op("Concat", *(g.op("Unsqueeze", row, middle) for row in (share, self._first, self._last)), axis=1)
        sums = g.op("MatMul", shares, tokens)
        pooled = g.op("Unsqueeze", self._pooled, last_axis)
        highest = g.op("Where", pooled, features, g.constant(LOWEST, np.float32))
        highest = g.op("ReduceMax", highest, middle, keepdims=1)
        some = g.op("Unsqueeze", g.op("Greater", self._count, g.constant(0, np.float32)), last_axis)
        highest = g.op("Where", some, highest, outside)
        mean, first, last = g.split(sums, 3, axis=1)
        g.output(
            "pooled",
            g.op("Concat", mean, highest, first, last, axis=1),
            np.float32,
            ["N", len(REDUCTIONS), size],
        )
