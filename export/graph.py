"""A thin writer of ONNX graphs: each call adds one node and returns the name of its output."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

# The lowest opset that has Gelu, and its IR version: ONNX Runtime reads both from 1.17 on.
OPSET = 20
IR_VERSION = 9

Shape: TypeAlias = list[str | int]
Attribute: TypeAlias = int | float | str | list[int] | list[float]


class Graph:
    """An ONNX graph in the making.

    Values are named after the scope and the operator that makes them (`layer.0/attention/MatMul_1`), so that a
    profile or an error of the runtime can be read.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._scope = ""
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._count: Counter[str] = Counter()

    def scope(self, name: str) -> None:
        """Puts what is added from here on under `name`."""
        self._scope = name

    def input(self, name: str, dtype: npt.DTypeLike, shape: Shape) -> str:
        """Declares a graph input; a str in `shape` is a dynamic dimension's name."""
        self._inputs.append(helper.make_tensor_value_info(name, _element_type(dtype), shape))
        return name

    def output(self, name: str, value: str, dtype: npt.DTypeLike, shape: Shape) -> None:
        """Declares `value` as the graph output `name`."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, _element_type(dtype), shape))

    def weight(self, name: str, array: npt.NDArray[np.generic]) -> str:
        """Adds an initializer under the name that the checkpoint gives it."""
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """Adds a small initializer, or returns the one that already holds this value."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(f"constant_{len(self._constants)}", array)
        return self._constants[key]

    def op(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """Adds a node with one output; an empty input name leaves an optional input out."""
        return self._node(kind, inputs, 1, attributes)[0]

    def split(self, value: str, parts: int, axis: int) -> list[str]:
        """Splits `value` into equal parts."""
        return self._node("Split", (value,), parts, {"axis": axis, "num_outputs": parts})

    def model(self, doc: str, metadata: dict[str, str]) -> ModelProto:
        """The whole as a ModelProto, weights inside it, `metadata` in its metadata_props."""
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._initializers, doc)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="bert-on-triton")
        helper.set_model_props(model, metadata)
        return model

    def _node(self, kind: str, inputs: tuple[str, ...], outputs: int, attributes: dict[str, Attribute]) -> list[str]:
        path = f"{self._scope}/{kind}" if self._scope else kind
        name = f"{path}_{self._count[path]}"
        self._count[path] += 1
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        node = helper.make_node(kind, inputs, names, name=name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self._nodes.append(node)
        return names


def _element_type(dtype: npt.DTypeLike) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
