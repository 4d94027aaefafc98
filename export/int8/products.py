"""Products of activations and weights, in a form that INT8 loses little of."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

_LEAST = 1e-30  # by what a row of zeros is divided


def split_from_bias(graph: GraphProto, gemms: Collection[str]) -> None:
    """Make a MatMul of the same name, and an Add behind it, of each of the Gemms (transB=1) with these names."""
    weights = {node.input[1] for node in graph.node if node.name in gemms}
    for tensor in graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).T.copy(), tensor.name))
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.name not in gemms:
            nodes.append(node)
            continue
        value, weight, *bias = node.input
        output = f"{node.name}/product" if bias else node.output[0]
        nodes.append(helper.make_node("MatMul", [value, weight], [output], name=node.name))
        if bias:
            nodes.append(helper.make_node("Add", [output, *bias], node.output, name=f"{node.name}/bias"))
    _put(graph, nodes)


def scale_by_row(graph: GraphProto, products: Collection[str]) -> None:
    """Divide each row of what the MatMuls with these names read by its largest |value|, and multiply what comes of it.

    Nothing changes but the rounding: an INT8 product has one scale for the whole tensor, of its largest row, and the
    others use few of its steps. A scale a row is what CTranslate2 has; ONNX's products take none, so it stands around
    them.
    """
    axis, least = "by_row.axis", "by_row.least"
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), axis))
    graph.initializer.append(numpy_helper.from_array(np.array(_LEAST, np.float32), least))
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.name not in products:
            nodes.append(node)
            continue

        def add(kind: str, *inputs: str, name: str = node.name, **attributes: Any) -> str:
            output = f"{name}/rows/{kind}"
            nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
            return output

        value, (output,) = node.input[0], node.output
        largest = add("Max", add("ReduceMax", add("Abs", value), axis, keepdims=1), least)
        node.input[0] = add("Mul", value, add("Reciprocal", largest))
        node.output[0] = f"{node.name}/scaled"
        nodes.append(node)
        nodes.append(helper.make_node("Mul", [node.output[0], largest], [output], name=f"{node.name}/unscaled"))
    _put(graph, nodes)


def _put(graph: GraphProto, nodes: list[NodeProto]) -> None:
    copies = GraphProto(node=nodes)
    del graph.node[:]
    graph.node.extend(copies.node)
