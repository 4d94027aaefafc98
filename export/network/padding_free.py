"""An encoder as an ONNX graph that never computes a padded position.

Inputs, INT32 [K]: `input_ids`, `attention_mask`, `token_type_ids`, `pooling_mask`, the padded rows of all requests
laid end to end, and for each of them INT32 [rows, 1] (`input_ids_shape` and so on), each row's padded length, so K is
their sum. This is what Triton's ragged batching hands over; a padded [N, S] batch is the same with K = N*S.

Triton compares neither the widths of a request's inputs nor their values, and merges requests of several clients. So
each input is addressed by its own lengths, and a row whose inputs are unlike in length or out of range (an id or type
without an embedding, a mask that is neither 0 nor 1, a token beyond the last position) is not computed: its outputs are
NaN, and those of all other rows are what they are without it. Time and memory for that are linear in K.

The T positions where attention_mask is 1 are taken out first. Embeddings, projections, feed-forward layers and norms
run on [T, H]; only attention goes through [rows, longest, H], by one Gather there and one back. A token attends to
the tokens of its row whose pooling_mask is 1. Where a row has none, it attends to all of them, as an additive
mask does (bert-as-service's -10000).

Outputs, with D = H * number of layers asked for: `token_embeddings` FP32 [K, D] (K of input_ids), zero at padding;
`pooled` FP32 [rows, 4, D], that is mean and max over pooling_mask (zero over nothing), first and last real token; and,
if asked for, `pooler_output` FP32 [rows, H], BERT's own tanh pooler over the last layer's first token. What is made of
each token besides, or instead, `token_vectors` and `token_weights`, is laid out as `token_embeddings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from export.network.architectures.encoder import Encoder
from export.network.graph import Graph
from export.network.layout import (
    BOOL,
    FLOAT,
    INPUTS,
    INT64,
    LOWEST,
    PROMPT,
    REDUCTIONS,
    TOKEN_EMBEDDINGS,
    limits,
    shape_of,
)
from export.network.weights import Array

_IDS, _MASK, *_ = range(len(INPUTS))
_END = np.iinfo(np.int64).max


class PaddingFree:
    """Tokens without padding; see `layout.Layout`.

    Values, where M counts the places of all inputs, these too end to end, and columns is `longest`, but 1 at least:
    `_end` [4, rows] the place after each row, by input; `_place` [4, T] the places of each token; `_values` [4, T]
    what the inputs hold there; `_position` [T] a token's place in its row; `_slot` [rows, columns] the token at each
    place of the padded batch, 0 where there is none, and `_attending` [rows, longest] the same; `_back` [T] place of
    each token in rows * longest; `_total` [1] T; `_outside` [rows] what stands for no token in a row, T or, in a wrong
    row, T + 1; `_first` and `_last` [rows] a row's first and last token, `_outside` for a row of none, and `_beginning`
    the first behind a prompt; `_filled` and `_pooled` BOOL [rows, columns] whether there is a token, and whether it is
    pooled; `_count` FP32 [rows, 1] how many are pooled.
    """

    rows = "rows"
    in_blocks = True

    def __init__(self, g: Graph, encoder: Encoder, prompts_apart: bool = False) -> None:
        g.scope("rows")
        self._g = g
        for name in INPUTS:
            g.input(name, np.int32, ["K" if name == "input_ids" else f"K of {name}"])
        shapes = [g.input(shape_of(name), np.int32, ["rows", 1]) for name in INPUTS]
        by_input = g.constant([len(INPUTS), -1])
        widths = g.op("Cast", g.op("Concat", *shapes, axis=0), to=INT64)
        width = g.op("Reshape", widths, by_input)  # [4, rows]
        end = g.op("Reshape", g.op("CumSum", widths, g.constant(0)), by_input)
        start = g.op("Sub", end, width)

        # A row is right if as many values are in range, in each of the four, as the longest of the four is long.
        limit = limits(encoder, prompts_apart)
        values = g.op("Concat", *INPUTS, axis=0)  # [M]
        lowered = (g.op("Min", name, g.constant(limit[name] - 1, np.int32)) for name in INPUTS)
        nearest = g.op("Max", g.op("Concat", *lowered, axis=0), g.constant(0, np.int32))
        in_range = self._before(g.op("Equal", values, nearest))
        fitting = g.op("Sub", g.op("Gather", in_range, end), g.op("Gather", in_range, start))
        first_axis = g.constant([0])
        least = g.op("ReduceMin", fitting, first_axis, keepdims=0)
        right = g.op("Equal", least, g.op("ReduceMax", width, first_axis, keepdims=0))

        # A row's tokens are those before its end, in the mask, that are not before its start.
        row_start, row_end = (g.op("Gather", places, g.constant(_MASK)) for places in (start, end))
        tokens = self._before(g.op("Cast", values, to=BOOL))
        none_before, all_before = g.op("Gather", tokens, row_start), g.op("Gather", tokens, row_end)
        reach = g.op("Min", row_end, g.op("Add", row_start, g.constant(encoder.max_positions)))
        right = g.op("And", right, g.op("Equal", g.op("Gather", tokens, reach), all_before))
        if encoder.adjacent:  # tokens begin once at most: with the row, or behind a place without one
            follows = g.op("Cast", g.op("Slice", values, g.constant([0]), g.constant([-1])), to=BOOL)
            follows = g.op("Concat", g.constant([False], np.bool_), follows, axis=0)
            begins = self._before(g.op("And", g.op("Cast", values, to=BOOL), g.op("Not", follows)))
            second = g.op("Min", row_end, g.op("Add", row_start, g.constant(1)))
            with_row = g.op("Sub", g.op("Gather", tokens, second), none_before)
            later = g.op("Sub", g.op("Gather", begins, row_end), g.op("Gather", begins, second))
            right = g.op("And", right, g.op("Less", g.op("Add", with_row, later), g.constant(2)))
        length = g.op("Where", right, g.op("Sub", all_before, none_before), g.constant(0))  # [rows]
        end_token = g.op("CumSum", length, g.constant(0))
        start_token = g.op("Sub", end_token, length)

        last_axis = g.constant([1])
        longest = g.op("ReduceMax", length, keepdims=0)
        # One column at least, since the highest of none is an error in older ONNX Runtimes.
        columns = g.op("Max", longest, g.constant(1))
        place = g.op("Unsqueeze", g.op("Range", g.constant(0), columns, g.constant(1)), first_axis)
        filled = g.op("Less", place, g.op("Unsqueeze", length, last_axis))
        slot = g.op("Where", filled, g.op("Add", g.op("Unsqueeze", start_token, last_axis), place), g.constant(0))

        found = g.op("NonZero", filled)  # [2, T]: the row of each token and, tokens counted, its place there
        row, in_row = (g.op("Gather", found, g.constant(index)) for index in (0, 1))
        every = g.op("Squeeze", g.op("NonZero", values), first_axis)
        kept = g.op("Gather", every, g.op("Add", g.op("Gather", none_before, row), in_row))
        position = g.op("Sub", kept, g.op("Gather", row_start, row))
        self._end, self._position = end, position
        self._place = g.op("Add", g.op("Gather", start, row, axis=1), position)
        self._values = g.op("Gather", values, self._place)

        pools = g.op("Cast", self.read("pooling_mask"), to=BOOL)
        pools = g.op("Concat", pools, g.constant([False], np.bool_), axis=0)  # for the slot of no token at all
        pooled = g.op("And", filled, g.op("Gather", pools, slot))
        count = g.op("ReduceSum", g.op("Cast", pooled, to=FLOAT), last_axis, keepdims=1)
        nothing = g.op("Equal", count, g.constant(0, np.float32))
        attends = g.op("Or", pooled, g.op("And", filled, nothing))
        bias = g.op("Where", attends, g.constant(0, np.float32), g.constant(LOWEST, np.float32))

        self._total = g.op("Shape", kept)
        self._outside = g.op("Where", right, self._total, g.op("Add", self._total, g.constant(1)))
        some = g.op("Greater", length, g.constant(0))
        self._first = g.op("Where", some, start_token, self._outside)
        self._last = g.op("Where", some, g.op("Sub", end_token, g.constant(1)), self._outside)
        self._beginning = self._first
        if prompts_apart:
            mask = g.op("Gather", g.op("Concat", self.read("pooling_mask"), g.constant([0], np.int32), axis=0), slot)
            pooled = g.op("And", filled, g.op("Equal", mask, g.constant(1, np.int32)))
            count = g.op("ReduceSum", g.op("Cast", pooled, to=FLOAT), last_axis, keepdims=1)
            of_text = g.op("And", filled, g.op("Less", mask, g.constant(PROMPT, np.int32)))
            place = g.op(
                "ArgMax", g.op("Cast", of_text, to=FLOAT), axis=1, keepdims=0
            )  # 0, the first, where all is prompt
            self._beginning = g.op("Where", some, g.op("Add", start_token, place), self._outside)
        self._slot, self._filled, self._pooled, self._count = slot, filled, pooled, count
        self._row, self._start_token = row, start_token
        # Where there is no token at all, attention has no columns, since there is nothing to put into them.
        self.longest = width = g.op("Unsqueeze", longest, first_axis)
        self._attending = g.op("Slice", slot, first_axis, width, last_axis)
        self._back = g.op("Add", g.op("Mul", row, longest), in_row)
        self.attended = g.op("Unsqueeze", g.op("Slice", bias, first_axis, width, last_axis), g.constant([1, 2]))
        spoiled = g.op("Where", right, g.constant(0, np.float32), g.constant(np.nan, np.float32))
        self.spoiled = g.op("Unsqueeze", spoiled, last_axis)

    def _before(self, flags: str) -> str:
        """How many of BOOL [places] are set before each place and before the end: [places + 1]."""
        g = self._g
        counted = g.op("CumSum", g.op("Cast", flags, to=INT64), g.constant(0))
        return g.op("Concat", g.constant([0]), counted, axis=0)

    def read(self, name: str) -> str:
        """[T]."""
        return self._g.op("Gather", self._values, self._g.constant(INPUTS.index(name)))

    def by_place(self, table: str) -> str:
        """[T, C]."""
        return self._g.op("Gather", table, self._position)

    def behind_padding(self, table: str, padding_id: int) -> str:
        """[T, C]."""
        g = self._g
        is_padding = g.op("Equal", self.read("input_ids"), g.constant(padding_id, np.int32))
        counted = g.op("Cast", g.op("Not", is_padding), to=INT64)
        before = self._before(counted)
        start = g.op("Gather", before, g.op("Gather", self._start_token, self._row))
        place = g.op("Sub", g.op("Slice", before, g.constant([1]), g.constant([_END]), g.constant([0])), start)
        return g.op("Gather", table, g.op("Add", g.op("Mul", place, counted), g.constant(padding_id)))

    def product(self, name: str, x: str, weight: Array, bias: Array | None) -> str:
        """[T, in] to [T, out]."""
        g = self._g
        biases = [] if bias is None else [g.parameter(f"{name}.bias", bias)]
        return g.op("Gemm", x, g.parameter(f"{name}.weight", weight), *biases, transB=1)

    def to_rows(self, x: str) -> str:
        """[T, C] to [rows, longest, C]; places without a token hold the first one's vector, which nobody attends to."""
        return self._g.op("Gather", x, self._attending)

    def from_rows(self, x: str, size: int) -> str:
        """To [T, size]."""
        g = self._g
        return g.op("Gather", g.op("Reshape", x, g.constant([-1, size])), self._back)

    def inside(self) -> str:
        """[rows, longest, 1]."""
        g = self._g
        filled = g.op("Slice", self._filled, g.constant([0]), self.longest, g.constant([1]))
        return g.narrow(g.op("Unsqueeze", g.op("Cast", filled, to=FLOAT), g.constant([2])))

    def first(self, x: str, size: int) -> str:
        """[T, size] to [rows, size]."""
        g = self._g
        outside = g.constant(np.zeros((2, size)), g.dtype)  # of a wrong row too: NaN should go through no product
        return g.op("Gather", g.op("Concat", x, outside, axis=0), self._first)

    def mean(self, x: str, size: int) -> str:
        """[T, size] to [rows, size]."""
        g = self._g
        return g.op("Div", self.sum(x, size), g.op("Max", self._count, g.constant(1, np.float32)))

    def sum(self, x: str, size: int) -> str:
        """[T, size] to [rows, size]."""
        g = self._g
        return self._sums(self._in_rows(g.op("Concat", x, g.constant(np.zeros((1, size)), np.float32), axis=0)))

    def highest(self, x: str, size: int) -> str:
        """[T, size] to [rows, size]."""
        g = self._g
        lowest = g.constant(np.full((1, size), LOWEST), np.float32)
        place = g.op("Where", self._pooled, self._slot, self._total)
        return g.op("ReduceMax", g.op("Gather", g.op("Concat", x, lowest, axis=0), place), g.constant([1]), keepdims=0)

    def _in_rows(self, padded: str) -> str:
        """[T + 1 or more, size], where row T is for places without a token, to [rows, columns, size]."""
        g = self._g
        return g.op("Gather", padded, g.op("Where", self._filled, self._slot, self._total))

    def _sums(self, states: str) -> str:
        """Over pooling_mask: [rows, columns, size] to [rows, size]."""
        g = self._g
        pooled = g.op("Cast", g.op("Unsqueeze", self._pooled, g.constant([2])), to=FLOAT)
        return g.op("ReduceSum", g.op("Mul", states, pooled), g.constant([1]), keepdims=0)

    def write_tokens(self, name: str, features: str, size: int) -> None:
        """From [T, size]."""
        self._tokens(name, features, size)

    def _tokens(self, name: str, features: str, size: int) -> str:
        """What is put out for tokens, [T, size], and behind it rows T and T + 1, for places without a token."""
        g = self._g
        outside = g.constant(np.repeat([[0], [np.nan]], size, axis=1), np.float32)
        padded = g.op("Concat", features, outside, axis=0)
        g.output(name, g.op("Gather", padded, self._token_at), np.float32, ["K", size])
        return padded

    @cached_property
    def _token_at(self) -> str:
        """[K], the token at each place of input_ids, or what is `_outside` there."""
        g = self._g
        zero, one = g.constant(0), g.constant(1)
        # Every place of input_ids gets what is outside its row, whose number is that of the rows that end before it,
        # and then the places of tokens get these.
        places = g.op("Shape", "input_ids")
        end = g.op("Gather", self._end, g.constant(_IDS))
        ends = g.op("Expand", zero, g.op("Add", places, one))
        ends = g.op("ScatterElements", ends, end, g.op("Expand", one, g.op("Shape", end)), axis=0, reduction="add")
        row = g.op("Slice", g.op("CumSum", ends, zero), g.constant([0]), places)
        order = g.op("Range", zero, g.op("Squeeze", self._total), one)
        place = g.op("Gather", self._place, g.constant(_IDS))
        return g.op("ScatterElements", g.op("Gather", self._outside, row), place, order, axis=0)

    def write(self, features: str, size: int, reductions: Sequence[str] = REDUCTIONS) -> None:
        """From [T, size]."""
        g = self._g
        padded = self._tokens(TOKEN_EMBEDDINGS, features, size)
        states = self._in_rows(padded)
        middle = g.constant([1])
        sums = self._sums(states)
        pooled = g.op("Unsqueeze", self._pooled, g.constant([2]))
        divisor = g.op("Max", self._count, g.constant(1, np.float32))
        mean = g.op("Div", sums, g.op("Add", divisor, self.spoiled))
        # What is not pooled is lowered, which is faster than to choose by Where, and the same.
        lowered = g.op("Where", pooled, g.constant(0, np.float32), g.constant(LOWEST, np.float32))
        highest = g.op("ReduceMax", g.op("Add", states, lowered), middle, keepdims=0)
        some = g.op("Greater", self._count, g.constant(0, np.float32))
        highest = g.op("Where", some, highest, self.spoiled)
        first = g.op("Gather", padded, self._beginning)
        last = g.op("Gather", padded, self._last)
        parts = {"mean": mean, "max": highest, "first": first, "last": last}
        if "mean_sqrt_len_tokens" in reductions:
            root = g.op("Sqrt", divisor)
            parts["mean_sqrt_len_tokens"] = g.op("Div", sums, g.op("Add", root, self.spoiled))
        if "weightedmean" in reductions:
            parts["weightedmean"] = self._weighted_mean(states)
        g.output(
            "pooled",
            g.op("Concat", *(g.op("Unsqueeze", parts[name], middle) for name in reductions), axis=1),
            np.float32,
            ["rows", len(reductions), size],
        )

    def _weighted_mean(self, states: str) -> str:
        """Of [rows, longest, D] with zeros where there is no token."""
        g = self._g
        one, last_axis = g.constant(1, np.float32), g.constant([1])
        positions = g.op("Concat", self._position, g.constant([0]), axis=0)  # for the slot of no token at all
        place = g.op("Cast", g.op("Gather", positions, self._slot), to=FLOAT)
        start = g.op("Slice", place, g.constant([0]), g.constant([1]), last_axis)
        weight = g.op("Add", g.op("Sub", place, start), one)
        weight = g.op("Mul", weight, g.op("Cast", self._pooled, to=FLOAT))
        sums = g.op("ReduceSum", g.op("Mul", states, g.op("Unsqueeze", weight, g.constant([2]))), last_axis, keepdims=0)
        divisor = g.op("Max", g.op("ReduceSum", weight, last_axis, keepdims=1), one)
        return g.op("Div", sums, g.op("Add", divisor, self.spoiled))
