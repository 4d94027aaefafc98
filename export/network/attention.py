"""Attention in a graph: each token of a row attends to the others of it.

What is the same in all layers (what distances add to scores, how far tokens see, angles) is written once. In the
padding-free layout, networks for long texts compute the scores of `BLOCK` tokens at a time, so that memory grows with
the length of a row and not with its square, and a layer that sees `window` places computes no scores beyond them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.network.architectures.encoder import Disentangled, Layer, Linear
from export.network.distances import Distances, band, deberta_rows, t5_buckets
from export.network.layout import FLOAT, LOWEST
from export.network.parts import Parts
from export.network.weights import Array, matrix

BLOCK = 256
"""Tokens whose scores are computed at a time."""

LONG = 1024
"""Where the longest text has more tokens, attention is computed in blocks."""


class Attention:
    """Writes the attention of each layer: tokens [..., H] to [..., heads * width], not projected yet."""

    def __init__(self, parts: Parts, silent: bool = False) -> None:
        """`silent`: whether there are tokens that nobody attends to, see `encoder.TokenVectors`."""
        self._parts = parts
        self._silent = silent
        self._g, self._encoder, self._layout = parts.g, parts.encoder, parts.layout
        by_distance = self._encoder.relative_bias or self._encoder.disentangled
        self._in_blocks = self._layout.in_blocks and not by_distance and self._encoder.max_positions > LONG
        self._heads = self._encoder.num_attention_heads
        self._pairs = self._encoder.num_key_value_heads or self._heads
        self._angles: dict[tuple[float, ...], tuple[str, str]] = {}
        self._masks: dict[int | None, str] = {}
        self._distances: Distances | None = None
        self._positions: Array | None = None  # DeBERTa's embeddings of relative ones

    def write(self, layer: Layer, x: str) -> str:
        """Return what the tokens attended to."""
        g, encoder = self._g, self._encoder
        name = layer.query.name.rpartition(".")[0]
        g.scope(name)
        query, key, value = (self._turned if layer.frequencies else self._plain)(name, layer, x)
        scale = encoder.width * (1 + bool(layer.position_key) + bool(layer.position_query))
        # [rows, heads, longest, width] each. The factor is on the query, which is smaller than the scores; in its
        # weights it would round every one of them.
        query = g.op("Mul", query, g.constant(scale**-0.5, g.dtype))
        if self._in_blocks:
            context = self._by_blocks(layer, query, key, value)
        else:
            scores = g.widen(g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2])))
            if encoder.disentangled:
                scores = self._with_positions(layer, scores, query, key, scale)
            mask = self._mask(layer.window)
            shares = g.narrow(g.op("Softmax", g.op("Add", scores, mask), axis=-1))
            context = self._seen(layer, g.op("MatMul", shares, value), mask)
        context = g.op("Transpose", context, perm=[0, 2, 1, 3])  # [rows, longest, heads, width]
        return self._layout.from_rows(context, self._heads * encoder.width)

    def _plain(self, name: str, layer: Layer, x: str) -> list[str]:
        """Queries, keys and values: [rows, heads, longest, width] each."""
        g, encoder = self._g, self._encoder
        size = self._heads * encoder.width
        projections = [layer.query, layer.key, layer.value]
        weight, bias = matrix(self._parts.weights, projections, [size] * 3, encoder.hidden_size)
        qkv = self._layout.product(f"{name}.qkv", x, weight, bias)  # [..., 3H]
        rows = self._layout.to_rows(qkv)  # [rows, longest, 3H]
        by_head = g.op("Reshape", rows, g.constant([0, 0, 3, self._heads, encoder.width]))
        parts = g.split(g.op("Transpose", by_head, perm=[2, 0, 3, 1, 4]), 3, axis=0)
        first = g.constant([0])
        return [g.op("Squeeze", part, first) for part in parts]

    def _turned(self, name: str, layer: Layer, x: str) -> list[str]:
        """The same, queries and keys rotated by their places.

        A rotation turns the i-th number of a head's first half with the i-th of its second. So the products make the
        first halves of all heads, then the second ones, then the values, and heads are put together afterwards, where
        numbers change their places anyway.
        """
        g, encoder = self._g, self._encoder
        heads, pairs, width = self._heads, self._pairs, encoder.width
        sizes = [heads * width, pairs * width, pairs * width]
        weight, bias = matrix(self._parts.weights, [layer.query, layer.key, layer.value], sizes, encoder.hidden_size)
        order = _halves_apart(heads, pairs, width)
        qkv = self._layout.product(f"{name}.qkv", x, weight[order], None if bias is None else bias[order])
        half = (heads + pairs) * width // 2
        one, other, values = g.pieces(qkv, [half, half, pairs * width], axis=-1)
        cosine, sine = self._angle(layer.frequencies)
        turned = (
            g.op("Sub", g.op("Mul", one, cosine), g.op("Mul", other, sine)),
            g.op("Add", g.op("Mul", other, cosine), g.op("Mul", one, sine)),
        )
        rows = self._layout.to_rows(g.op("Concat", *turned, axis=-1))
        rows = g.op("Reshape", rows, g.constant([0, 0, 2, heads + pairs, width // 2]))
        rows = g.op("Transpose", rows, perm=[0, 3, 1, 2, 4])
        rows = g.op("Reshape", rows, g.constant([0, 0, 0, width]))  # [rows, heads + pairs, longest, width]
        query, key = g.pieces(rows, [heads, pairs], axis=1)
        value = g.op("Reshape", self._layout.to_rows(values), g.constant([0, 0, pairs, width]))
        value = g.op("Transpose", value, perm=[0, 2, 1, 3])
        return [query, self._shared(key), self._shared(value)]

    def _shared(self, x: str) -> str:
        """Keys or values [rows, pairs, longest, width] for all heads: each is shared by heads side by side."""
        g, times = self._g, self._heads // self._pairs
        if times == 1:
            return x
        x = g.op("Expand", g.op("Unsqueeze", x, g.constant([2])), g.constant([1, 1, times, 1, 1]))
        return g.op("Reshape", x, g.constant([0, self._heads, -1, self._encoder.width]))

    def _angle(self, frequencies: tuple[float, ...]) -> tuple[str, str]:
        """Cosine and sine of every token's angles, for the halves of all heads of queries and keys."""
        if frequencies not in self._angles:
            g, encoder = self._g, self._encoder
            places = np.arange(encoder.max_positions, dtype=np.float32)[:, None]
            # As the reference, whose products are rounded before the cosine is taken.
            angles = (places * np.array(frequencies, np.float32)).astype(np.float64)
            number = len(self._angles)
            tables = [
                g.weight(f"rotations.{number}.{kind}", function(angles).astype(g.dtype))
                for kind, function in (("cosine", np.cos), ("sine", np.sin))
            ]
            times = g.constant([1, self._heads + self._pairs])
            cosine, sine = (g.op("Tile", self._layout.by_place(table), times) for table in tables)
            self._angles[frequencies] = cosine, sine
        return self._angles[frequencies]

    def _mask(self, window: int | None) -> str:
        """What is added to the scores of layers that see so far: FP32, broadcast to [rows, heads, longest, longest]."""
        if window not in self._masks:
            g, bias = self._g, self._encoder.relative_bias
            mask = self._layout.attended
            if bias:
                table = self._parts.table(bias.name, bias.buckets, self._heads)
                buckets = g.weight(f"{bias.name}.buckets", t5_buckets(self._encoder.max_positions, bias.buckets))
                added = g.op("Gather", table, self._by_distance().matrix(buckets))  # [longest, longest, heads]
                mask = g.op("Add", mask, g.widen(g.op("Transpose", added, perm=[2, 0, 1])))
            if window is not None:
                places = g.op("Range", g.constant(0), g.op("Squeeze", self._layout.longest), g.constant(1))
                mask = g.op("Add", mask, band(g, places, places, window))
            self._masks[window] = mask
        return self._masks[window]

    def _by_distance(self) -> Distances:
        if not self._distances:
            self._distances = Distances(self._g, self._layout.longest, self._encoder.max_positions)
        return self._distances

    def _by_blocks(self, layer: Layer, query: str, key: str, value: str) -> str:
        """What `BLOCK` tokens attended to, and the next, and so on: [rows, heads, longest, width]."""
        g, longest = self._g, self._layout.longest
        key = g.op("Transpose", key, perm=[0, 1, 3, 2])
        zero, one, block = g.constant([0]), g.constant([1]), g.constant([BLOCK])
        rounds = g.op("Div", g.op("Add", longest, g.constant([BLOCK - 1])), block)

        def one_block(number: str, context: str) -> str:
            start = g.op("Mul", g.op("Unsqueeze", number, zero), block)
            end = g.op("Min", g.op("Add", start, block), longest)
            queries = g.op("Slice", query, start, end, g.constant([2]))
            keys, values, mask = key, value, self._layout.attended
            if layer.window is not None:
                reach = g.constant([layer.window])
                first = g.op("Max", g.op("Sub", start, reach), zero)
                last = g.op("Min", g.op("Add", end, reach), longest)
                keys = g.op("Slice", key, first, last, g.constant([3]))
                values = g.op("Slice", value, first, last, g.constant([2]))
                mask = g.op("Slice", mask, first, last, g.constant([3]))
                rows, columns = (
                    g.op("Range", g.op("Squeeze", low), g.op("Squeeze", high), g.op("Squeeze", one))
                    for low, high in ((start, end), (first, last))
                )
                mask = g.op("Add", mask, band(g, rows, columns, layer.window))
            scores = g.widen(g.op("MatMul", queries, keys))
            shares = g.narrow(g.op("Softmax", g.op("Add", scores, mask), axis=-1))
            return g.op("Concat", context, self._seen(layer, g.op("MatMul", shares, values), mask), axis=2)

        return g.loop(g.op("Squeeze", rounds), g.op("Slice", query, zero, zero, g.constant([2])), one_block)

    def _seen(self, layer: Layer, context: str, mask: str) -> str:
        """What tokens attended to; zero for one that sees none to attend to, as torch has it."""
        if not self._silent or layer.window is None:
            return context
        g = self._g
        nearest = g.op("ReduceMax", mask, g.constant([3]), keepdims=1)
        sees = g.op("Cast", g.op("Greater", nearest, g.constant(LOWEST / 2, np.float32)), to=FLOAT)
        return g.op("Mul", context, g.narrow(sees))

    def _with_positions(self, layer: Layer, scores: str, query: str, key: str, scale: int) -> str:
        """DeBERTa's scores: those of contents, and what contents and relative positions have to do with each other."""
        g, distances = self._g, self._by_distance()
        if layer.position_key:
            table = self._position_table(layer.position_key, 1.0)
            products = g.op("MatMul", query, self._of_distances(table, "to_keys"))
            scores = g.op("Add", scores, g.widen(distances.skewed(products)))
        if layer.position_query:
            table = self._position_table(layer.position_query, scale**-0.5)
            products = g.op("MatMul", key, self._of_distances(table, "to_queries"))
            products = g.op("Transpose", distances.skewed(products), perm=[0, 1, 3, 2])
            scores = g.op("Add", scores, g.widen(products))
        return scores

    def _of_distances(self, table: str, side: str) -> str:
        """A table [2 * span, heads * width] of relative positions, by distance: [heads, width, 2 * longest].

        Whole rows are gathered, since single numbers take ten times as long. The Reshape keeps the Transpose from the
        product: of one in FP16 ONNX Runtime 1.32 dies (MatmulTransposeFusion).
        """
        g, attention = self._g, self._attention()
        rows = deberta_rows(self._encoder.max_positions, attention)
        if side == "to_queries":  # seen from the key, whose row it is: distances the other way round
            rows = np.append(rows[-2::-1], rows[0])
        rows_of_run = self._by_distance().of_run(g.weight(f"{attention.name}.{side}", rows))
        by_distance = g.op("Transpose", g.op("Gather", table, rows_of_run), perm=[1, 0])
        return g.op("Reshape", by_distance, g.constant([self._heads, self._encoder.width, -1]))

    def _position_table(self, projection: Linear, factor: float) -> str:
        """The embeddings of relative positions, projected, the same for every text: [2 * span, heads * width]."""
        encoder, weights, attention = self._encoder, self._parts.weights, self._attention()
        if self._positions is None:
            x = weights.take(attention.name, (2 * attention.span, encoder.hidden_size))
            if attention.norm:
                scale, bias = (weights.take(f"{attention.norm}.{part}", x.shape[1:]) for part in ("weight", "bias"))
                centred = x - x.mean(axis=1, keepdims=True)
                x = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + encoder.norm.epsilon)
                x = x * scale + bias
            self._positions = x
        weight, bias_of = matrix(weights, [projection], [self._heads * encoder.width], encoder.hidden_size)
        projected = (self._positions @ weight.T + (0 if bias_of is None else bias_of)) * factor
        return self._g.parameter(f"{projection.name}.relative", projected.astype(np.float32))

    def _attention(self) -> Disentangled:
        assert self._encoder.disentangled
        return self._encoder.disentangled


def _halves_apart(heads: int, pairs: int, width: int) -> npt.NDArray[np.int64]:
    """The order of the rows of queries, keys and values in which first halves are apart from second ones."""
    turned = np.arange((heads + pairs) * width).reshape(heads + pairs, 2, width // 2).transpose(1, 0, 2).ravel()
    return np.concatenate([turned, np.arange((heads + pairs) * width, (heads + 2 * pairs) * width)])
