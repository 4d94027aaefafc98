"""An encoder as an ONNX graph over padded rows, whose shapes depend on N and S alone, as TensorRT wants it.

Inputs, INT32 [N, S]: `input_ids`, `attention_mask`, `token_type_ids`, `pooling_mask`. Outputs, with D = H * number of
layers asked for: `token_embeddings` FP32 [N, S, D], zero at padding; `pooled` FP32 [N, 4, D], that is mean and max over
pooling_mask (zero over nothing), first and last real token; and, if asked for, `pooler_output` FP32 [N, H]. A token
attends to the tokens of its row whose pooling_mask is 1; where a row has none, to all of them.

What is made of each token besides, or instead, is laid out as `token_embeddings`, under another name.

The numbers are those of the padding-free network (`padding_free`), row by row, NaN for a row that is out of range
included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from export.network.architectures.encoder import Encoder
from export.network.graph import Graph
from export.network.layout import BOOL, FLOAT, INPUTS, INT64, LOWEST, PROMPT, REDUCTIONS, TOKEN_EMBEDDINGS, limits
from export.network.weights import Array

# Beyond any place in a row, and exact in FP32.
_NOWHERE = 1 << 20


class Padded:
    """Tokens in padded rows; see `layout.Layout`.

    Values, all [N, S]: `_nearest` the inputs, by name, with the nearest value in range where one is out of it;
    `_filled` and `_pooled` BOOL, whether there is a token, and whether it is pooled, of which a wrong row has none;
    `_first` and `_last` FP32, 1 at a row's first and last token, `_beginning` at the first behind a prompt. `_count`
    FP32 [N, 1], how many are pooled; `_place` FP32 [1, S], from 0 on, and `_lowest` [N, 1] that of a row's first token.
    """

    rows = "N"
    in_blocks = False

    def __init__(self, g: Graph, encoder: Encoder, prompts_apart: bool = False) -> None:
        g.scope("rows")
        self._g = g
        self._nearest = {}
        in_range = []
        for name, limit in limits(encoder, prompts_apart).items():
            value = g.input(name, np.int32, ["N", "S"])
            lowered = g.op("Min", value, g.constant(limit - 1, np.int32))
            self._nearest[name] = g.op("Max", lowered, g.constant(0, np.int32))
            in_range.append(g.op("Cast", g.op("Equal", value, self._nearest[name]), to=FLOAT))
        least = g.op("ReduceMin", g.op("Min", *in_range), g.constant([1]), keepdims=1)
        right = g.op("Cast", least, to=BOOL)  # [N, 1]
        if encoder.adjacent:
            right = g.op("And", right, self._without_gap())
        self.spoiled = g.op("Where", right, g.constant(0, np.float32), g.constant(np.nan, np.float32))

        self.longest = g.op("Gather", g.op("Shape", INPUTS[0]), g.constant([1]))  # [1]
        self._filled = g.op("And", g.op("Cast", self.read("attention_mask"), to=BOOL), right)
        self._pooled = g.op("And", self._filled, g.op("Cast", self.read("pooling_mask"), to=BOOL))
        self._count = g.op("ReduceSum", g.op("Cast", self._pooled, to=FLOAT), g.constant([1]), keepdims=1)
        nothing = g.op("Equal", self._count, g.constant(0, np.float32))
        attends = g.op("Or", self._pooled, g.op("And", self._filled, nothing))
        bias = g.op("Where", attends, g.constant(0, np.float32), g.constant(LOWEST, np.float32))
        self.attended = g.op("Unsqueeze", bias, g.constant([1, 2]))

        place = g.op("Range", g.constant(0), g.op("Squeeze", self.longest), g.constant(1))
        place = g.op("Cast", g.op("Unsqueeze", place, g.constant([0])), to=FLOAT)  # [1, S]
        from_left = g.op("Where", self._filled, place, g.constant(_NOWHERE, np.float32))
        from_right = g.op("Where", self._filled, place, g.constant(-1, np.float32))
        lowest = g.op("ReduceMin", from_left, g.constant([1]), keepdims=1)
        highest = g.op("ReduceMax", from_right, g.constant([1]), keepdims=1)
        self._first = g.op("Cast", g.op("Equal", place, lowest), to=FLOAT)
        self._last = g.op("Cast", g.op("Equal", place, highest), to=FLOAT)
        self._place, self._lowest = place, lowest
        self._beginning = self._first
        if prompts_apart:
            mask = self.read("pooling_mask")
            self._pooled = g.op("And", self._filled, g.op("Equal", mask, g.constant(1, np.int32)))
            self._count = g.op("ReduceSum", g.op("Cast", self._pooled, to=FLOAT), g.constant([1]), keepdims=1)
            is_prompt = g.op("Equal", mask, g.constant(PROMPT, np.int32))
            of_text = g.op("Where", is_prompt, g.constant(_NOWHERE, np.float32), from_left)
            beginning = g.op("ReduceMin", of_text, g.constant([1]), keepdims=1)
            there = g.op("Greater", g.constant(_NOWHERE, np.float32), beginning)
            beginning = g.op("Where", there, beginning, lowest)  # the first, where all is prompt
            self._beginning = g.op("Cast", g.op("Equal", place, beginning), to=FLOAT)

    def read(self, name: str) -> str:
        """[N, S]."""
        return self._nearest[name]

    def _without_gap(self) -> str:
        """BOOL [N, 1], whether a row's tokens stand side by side: they begin once at most."""
        g = self._g
        mask = g.op("Cast", self.read("attention_mask"), to=FLOAT)
        before = g.op("Pad", mask, g.constant([0, 1, 0, -1]), g.constant(0, np.float32))
        begins = g.op("Relu", g.op("Sub", mask, before))
        return g.op("Less", g.op("ReduceSum", begins, g.constant([1]), keepdims=1), g.constant(1.5, np.float32))

    def by_place(self, table: str) -> str:
        """[S, C]: a token's position is its place in the row, whatever stands before it."""
        g = self._g
        return g.op("Slice", table, g.constant([0]), self.longest, g.constant([0]))

    def behind_padding(self, table: str, padding_id: int) -> str:
        """[N, S, C]."""
        g = self._g
        is_padding = g.op("Equal", self.read("input_ids"), g.constant(padding_id, np.int32))
        counted = g.op("And", self._filled, g.op("Not", is_padding))
        counted = g.op("Cast", counted, to=FLOAT)  # of which TensorRT makes sums, and not of integers
        places = g.op("Cast", g.op("Mul", g.op("CumSum", counted, g.constant(1)), counted), to=INT64)
        return g.op("Gather", table, g.op("Add", places, g.constant(padding_id)))

    def product(self, name: str, x: str, weight: Array, bias: Array | None) -> str:
        """[N, S, in] to [N, S, out], or [N, in] to [N, out]."""
        g = self._g
        y = g.op("MatMul", x, g.parameter(f"{name}.weight", weight.T))
        return y if bias is None else g.op("Add", y, g.parameter(f"{name}.bias", bias))

    def to_rows(self, x: str) -> str:
        """[N, S, C], as it is."""
        return x

    def from_rows(self, x: str, size: int) -> str:
        """[N, S, heads, width] to [N, S, size]."""
        return self._g.op("Reshape", x, self._g.constant([0, 0, size]))

    def inside(self) -> str:
        """[N, S, 1]."""
        g = self._g
        return g.narrow(g.op("Unsqueeze", g.op("Cast", self._filled, to=FLOAT), g.constant([2])))

    def first(self, x: str, size: int) -> str:
        """[N, S, size] to [N, size], by a product with 1 at the first token and 0 elsewhere."""
        g = self._g
        row = g.narrow(g.op("Unsqueeze", self._first, g.constant([1])))
        return g.op("Squeeze", g.op("MatMul", row, x), g.constant([1]))

    def mean(self, x: str, size: int) -> str:
        """[N, S, size] to [N, size]."""
        g = self._g
        return g.op("Div", self.sum(x, size), g.op("Max", self._count, g.constant(1, np.float32)))

    def sum(self, x: str, size: int) -> str:
        """[N, S, size] to [N, size], by a product with 1 at each token that is pooled."""
        g = self._g
        x = g.op("Where", g.op("Unsqueeze", self._filled, g.constant([2])), x, g.constant(0, np.float32))
        pooled = g.op("Unsqueeze", g.op("Cast", self._pooled, to=FLOAT), g.constant([1]))
        return g.op("Squeeze", g.op("MatMul", pooled, x), g.constant([1]))

    def highest(self, x: str, size: int) -> str:
        """[N, S, size] to [N, size]."""
        g = self._g
        pooled = g.op("Unsqueeze", self._pooled, g.constant([2]))
        x = g.op("Where", pooled, x, g.constant(LOWEST, np.float32))
        return g.op("ReduceMax", x, g.constant([1]), keepdims=0)

    def write_tokens(self, name: str, features: str, size: int) -> None:
        """From [N, S, size]."""
        self._tokens(name, features, size)

    def _tokens(self, name: str, features: str, size: int) -> tuple[str, str]:
        """What is put out for tokens, and what stands where there is none: [N, 1, 1]."""
        g = self._g
        last_axis = g.constant([2])
        outside = g.op("Unsqueeze", self.spoiled, last_axis)
        tokens = g.op("Where", g.op("Unsqueeze", self._filled, last_axis), features, outside)
        g.output(name, tokens, np.float32, ["N", "S", size])
        return tokens, outside

    def write(self, features: str, size: int, reductions: Sequence[str] = REDUCTIONS) -> None:
        """From [N, S, size]."""
        g = self._g
        last_axis, middle = g.constant([2]), g.constant([1])
        tokens, outside = self._tokens(TOKEN_EMBEDDINGS, features, size)

        # All but the maximum in one product of [N, 3, S] (or more) and [N, S, D].
        weight, least = g.op("Cast", self._pooled, to=FLOAT), g.constant(1, np.float32)
        count = g.op("Max", self._count, least)
        shares = {"mean": g.op("Div", weight, count), "first": self._beginning, "last": self._last}
        if "mean_sqrt_len_tokens" in reductions:
            shares["mean_sqrt_len_tokens"] = g.op("Div", weight, g.op("Sqrt", count))
        if "weightedmean" in reductions:
            weight = g.op("Mul", weight, g.op("Add", g.op("Sub", self._place, self._lowest), least))
            whole = g.op("ReduceSum", weight, g.constant([1]), keepdims=1)
            shares["weightedmean"] = g.op("Div", weight, g.op("Max", whole, least))
        rows = g.op("Concat", *(g.op("Unsqueeze", row, middle) for row in shares.values()), axis=1)
        sums = g.op("MatMul", rows, tokens)
        pooled = g.op("Unsqueeze", self._pooled, last_axis)
        highest = g.op("Where", pooled, features, g.constant(LOWEST, np.float32))
        highest = g.op("ReduceMax", highest, middle, keepdims=1)
        some = g.op("Unsqueeze", g.op("Greater", self._count, g.constant(0, np.float32)), last_axis)
        highest = g.op("Where", some, highest, outside)
        parts = dict(zip(shares, g.split(sums, len(shares), axis=1), strict=True)) | {"max": highest}
        g.output(
            "pooled",
            g.op("Concat", *(parts[name] for name in reductions), axis=1),
            np.float32,
            ["N", len(reductions), size],
        )
