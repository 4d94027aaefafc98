"""A padding-free network that computes a batch slice by slice, for a runtime that would run it whole.

Triton's native backend hands a merged batch to one run of the network. Run whole, its memory grows with all the tokens
of the batch (4.9 GB for 64 texts of 512, BERT-base), and attention is computed as wide as the longest row. So here the
network becomes the body of a Loop: rows are sorted by length, and each round takes as many as a number of tokens
allows, one at least, the longest first. Inputs, outputs and their order stay what they are, and so does what becomes
of a wrong row.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, ValueInfoProto, helper

from export.network.graph import Graph
from export.network.layout import BOOL, INPUTS, INT32, INT64, OF_TOKENS, shape_of

_INSIDE = "slice/"
"""How the names begin of what is in the Loop; the network's own nodes keep theirs."""

_FILLED_UP = {"indices": -1, "weights": 0}
"""Outputs as wide as the widest of all rows, and what the others are filled up with."""


def slice_rows(model: ModelProto, tokens: int) -> None:
    """Change a network of `padding_free` so that it computes so many tokens at a time, or one longer row."""
    graph = model.graph
    kinds = {output.name: output.type.tensor_type.elem_type for output in graph.output}
    g = Graph(graph.name, constants=f"{_INSIDE}constant")
    g.scope("slices")
    rows = _Rows(g)
    network = list(_renamed(graph.node, {*INPUTS, *map(shape_of, INPUTS), *kinds}))
    body = g.apart(lambda: _round(g, rows, network, kinds, tokens))
    carried = [_carried(name, kind) for name, kind in kinds.items()]
    values = [_tensor("round", INT64, []), _tensor("goes_on", BOOL, []), _tensor("at", INT64, [1])]
    following = [_tensor("goes_on_after", BOOL, []), _tensor("at_after", INT64, [1])]
    loop = helper.make_graph(
        body, "slices", [*values, *(before for before, _ in carried)], [*following, *(after for _, after in carried)]
    )
    nothing = [
        g.constant(np.zeros((0, 1)), helper.tensor_dtype_to_np_dtype(kind))
        if name in _FILLED_UP
        else g.op("SequenceEmpty", dtype=kind)
        for name, kind in kinds.items()
    ]
    goes_on, first = g.constant(True, np.bool_), g.constant([0])
    _, *found = g.outputs_of("Loop", 1 + len(kinds), "", goes_on, first, *nothing, body=loop)
    for name, value in zip(kinds, found, strict=True):
        whole = value if name in _FILLED_UP else g.op("ConcatFromSequence", value, axis=0)
        order = rows.token_order() if name in OF_TOKENS else rows.order
        g.name(name, g.op("Gather", whole, _inverse(g, order)))
    around = g.model("", {}).graph
    del graph.node[:], graph.value_info[:]
    graph.node.extend(around.node)
    graph.initializer.extend(around.initializer)


class _Rows:
    """The rows of a batch, the longest first.

    Values: `order` [rows] where each comes from; `lengths` [rows] its tokens; `values` [M] all inputs, end to end, as
    `_place` [M] says where each comes from; `start`, `end` and `width` [4, rows] of the rows in it.
    """

    def __init__(self, g: Graph) -> None:
        self._g = g
        zero, one = g.constant(0), g.constant(1)
        first, flat, by_input = g.constant([0]), g.constant([-1]), g.constant([len(INPUTS), -1])
        self.count = g.op("Shape", shape_of(INPUTS[0]), start=0, end=1)  # [1]
        width = g.op("Reshape", g.op("Concat", *map(shape_of, INPUTS), axis=0), flat)
        width = g.op("Cast", width, to=INT64)  # [4 * rows]
        end = g.op("CumSum", width, zero)
        start = g.op("Sub", end, width)
        values = g.op("Concat", *INPUTS, axis=0)
        counted = g.op("CumSum", g.op("Cast", g.op("Cast", values, to=BOOL), to=INT64), zero)
        before = g.op("Concat", first, counted, axis=0)
        counts = g.op("Sub", g.op("Gather", before, end), g.op("Gather", before, start))
        tokens = g.op("Gather", g.op("Reshape", counts, by_input), g.constant(INPUTS.index("attention_mask")))
        self.lengths, self.order = g.outputs_of("TopK", 2, tokens, self.count)

        # A place gets what stands as far from it as its row has moved; its row is the number of those that end before.
        others = g.op("Mul", self.count, g.constant(np.arange(len(INPUTS))[:, None]))
        order = g.op("Reshape", g.op("Add", self.order, others), flat)
        width = g.op("Gather", width, order)
        end = g.op("CumSum", width, zero)
        new_start = g.op("Sub", end, width)
        places = g.op("Shape", values)
        ends = g.op("Expand", zero, g.op("Add", places, g.constant([1])))
        ends = g.op("ScatterElements", ends, end, g.op("Expand", one, g.op("Shape", end)), axis=0, reduction="add")
        row = g.op("Slice", g.op("CumSum", ends, zero), first, places)
        moved = g.op("Gather", g.op("Sub", g.op("Gather", start, order), new_start), row)
        self._place = g.op("Add", g.op("Range", zero, g.op("Squeeze", places), one), moved)
        self.values = g.op("Gather", values, self._place)
        self.width, self.start, self.end = (g.op("Reshape", x, by_input) for x in (width, new_start, end))

    def token_order(self) -> str:
        """[K], where the places of input_ids, the first of `values`, come from."""
        return self._g.op("Slice", self._place, self._g.constant([0]), self._g.op("Shape", INPUTS[0]))


def _round(g: Graph, rows: _Rows, network: Iterable[NodeProto], kinds: dict[str, int], tokens: int) -> None:
    """Nodes of one round: what goes into the network, the network, and what it adds to what there is."""
    one, at = g.constant([1]), f"{_INSIDE}at"
    longest = g.op("Max", g.op("Slice", rows.lengths, at, g.op("Add", at, one)), one)
    many = g.op("Max", g.op("Div", g.constant([tokens]), longest), one)
    after = g.op("Min", g.op("Add", at, many), rows.count)
    start = g.op("Squeeze", g.op("Gather", rows.start, at, axis=1), one)
    end = g.op("Squeeze", g.op("Gather", rows.end, g.op("Sub", after, one), axis=1), one)
    width = g.op("Cast", g.op("Slice", rows.width, at, after, one), to=INT32)
    parts = (g.split(value, len(INPUTS), axis=0) for value in (start, end, width))
    for name, low, high, wide in zip(INPUTS, *parts, strict=True):
        g.name(_INSIDE + name, g.op("Slice", rows.values, low, high))
        g.name(_INSIDE + shape_of(name), g.op("Reshape", wide, g.constant([-1, 1])))
    g.add(network)
    g.name(f"{_INSIDE}at_after", after)
    g.name(f"{_INSIDE}goes_on_after", g.op("Squeeze", g.op("Less", after, rows.count)))
    for name, kind in kinds.items():
        value, before = _INSIDE + name, f"{_INSIDE}{name}_before"
        together = _under(g, before, value, name, kind) if name in _FILLED_UP else g.op("SequenceInsert", before, value)
        g.name(f"{_INSIDE}{name}_after", together)


def _under(g: Graph, above: str, below: str, name: str, kind: int) -> str:
    """Rows under rows, all as wide as the widest of them."""
    widths = [g.op("Shape", value, start=1, end=2) for value in (above, below)]
    widest, none = g.op("Max", *widths), g.constant([0, 0, 0])
    fill = g.constant(_FILLED_UP[name], helper.tensor_dtype_to_np_dtype(kind))
    pads = [g.op("Concat", none, g.op("Sub", widest, width), axis=0) for width in widths]
    return g.op("Concat", g.op("Pad", above, pads[0], fill), g.op("Pad", below, pads[1], fill), axis=0)


def _inverse(g: Graph, order: str) -> str:
    """[n], where each place went that came from where `order` says."""
    count = g.op("Shape", order)
    numbers = g.op("Range", g.constant(0), g.op("Squeeze", count), g.constant(1))
    return g.op("ScatterElements", g.op("Expand", g.constant(0), count), order, numbers, axis=0)


def _renamed(nodes: Iterable[NodeProto], names: Set[str]) -> Iterable[NodeProto]:
    """Copies of nodes in which these values are those inside."""
    for node in nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        for values in (copy.input, copy.output):
            values[:] = [_INSIDE + value if value in names else value for value in values]
        for attribute in copy.attribute:
            if attribute.type == AttributeProto.GRAPH:
                inside = list(_renamed(attribute.g.node, names))
                del attribute.g.node[:]
                attribute.g.node.extend(inside)
        yield copy


def _carried(name: str, kind: int) -> tuple[ValueInfoProto, ValueInfoProto]:
    """What is there of an output before a round and after it."""
    before, after = (f"{_INSIDE}{name}_{when}" for when in ("before", "after"))
    make = helper.make_tensor_value_info if name in _FILLED_UP else helper.make_tensor_sequence_value_info
    return make(before, kind, None), make(after, kind, None)


def _tensor(name: str, kind: int, shape: list[int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(_INSIDE + name, kind, shape)
