"""A thin writer of ONNX graphs: each call adds one node and returns the name of its output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, helper

from export.errors import ExportError

# The lowest opset that has Gelu, and its IR version: ONNX Runtime reads both from 1.17 on.
OPSET = 20
IR_VERSION = 9

Shape: TypeAlias = list[str | int]
Attribute: TypeAlias = int | float | str | list[int] | list[float] | GraphProto


class Graph:
    """An ONNX graph in the making.

    Values are named after the scope and the operator that makes them (`layer.0/attention/MatMul_1`), so that a
    profile or an error of the runtime can be read.

    Attributes:
        dtype: Of weights and activations: float32, or float16 for a network in half precision, which goes back to
            float32 by `widen` where that would lose too much.
    """

    def __init__(self, name: str, half: bool = False, constants: str = "constant") -> None:
        self.dtype: type[np.floating[Any]] = np.float16 if half else np.float32
        self._name = name
        self._scope = ""
        self._nodes: list[NodeProto] = []
        self._model = ModelProto(ir_version=IR_VERSION, producer_name="bert-on-triton")
        self._constant = constants
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._weights: set[str] = set()
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._count: Counter[str] = Counter()

    def scope(self, name: str) -> None:
        """Put what is added from here on under `name`."""
        self._scope = name

    def input(self, name: str, dtype: npt.DTypeLike, shape: Shape) -> str:
        """Declare a graph input; a str in `shape` is a dynamic dimension's name."""
        self._inputs.append(helper.make_tensor_value_info(name, _element_type(dtype), shape))
        return name

    def output(self, name: str, value: str, dtype: npt.DTypeLike, shape: Shape) -> None:
        """Declare `value` as the graph output `name`."""
        self.name(name, value)
        self._outputs.append(helper.make_tensor_value_info(name, _element_type(dtype), shape))

    def weight(self, name: str, array: npt.NDArray[np.generic]) -> str:
        """Add an initializer under the name that the checkpoint gives it, once: layers may share their weights."""
        if name in self._weights:
            return name
        self._weights.add(name)
        # Straight into the model, since every message that is put into another one is copied.
        tensor = self._model.graph.initializer.add(name=name, data_type=_element_type(array.dtype), dims=array.shape)
        tensor.raw_data = array.tobytes()
        return name

    def parameter(self, name: str, array: npt.NDArray[np.floating[Any]]) -> str:
        """Add an initializer in the network's precision.

        Raises:
            ExportError: it has values that FP16 cannot hold.
        """
        largest, limit = max(-float(array.min()), float(array.max())), float(np.finfo(self.dtype).max)
        if not largest <= limit:  # so that NaN fails
            raise ExportError(f"{name} has values up to {largest:.3g}, and FP16 ends at {limit:.0f}: export in FP32")
        return self.weight(name, array.astype(self.dtype, copy=False))

    def widen(self, value: str) -> str:
        """An activation in float32."""
        return value if self.dtype is np.float32 else self.op("Cast", value, to=_element_type(np.float32))

    def narrow(self, value: str) -> str:
        """A float32 value in the network's precision again."""
        return value if self.dtype is np.float32 else self.op("Cast", value, to=_element_type(self.dtype))

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """Add a small initializer, or return the one that already holds this value."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(f"{self._constant}_{len(self._constants)}", array)
        return self._constants[key]

    def op(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """Add a node with one output; an empty input name leaves an optional input out."""
        return self._node(kind, inputs, 1, attributes)[0]

    def outputs_of(self, kind: str, count: int, *inputs: str, **attributes: Attribute) -> list[str]:
        """Add a node with so many outputs."""
        return self._node(kind, inputs, count, attributes)

    def split(self, value: str, parts: int, axis: int) -> list[str]:
        """Split `value` into equal parts."""
        return self._node("Split", (value,), parts, {"axis": axis, "num_outputs": parts})

    def pieces(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Split `value` into parts of these sizes."""
        return self._node("Split", (value, self.constant(sizes)), len(sizes), {"axis": axis})

    def loop(self, rounds: str, start: str, body: Callable[[str, str], str]) -> str:
        """Carry a value of the network's precision through so many rounds, each of which computes the next from it.

        Args:
            rounds: INT64 [], how many.
            start: The value before the first.
            body: Called with names of the number of a round (INT64 []) and of the value before it, and adds nodes that
                make the next one, whose name it returns. It may use whatever was made before.
        """
        kind, scope = self.dtype, self._scope
        name = self._name_of("Loop")
        inputs = [f"{name}.{part}" for part in ("round", "goes_on", "value")]
        made = []

        def write() -> None:
            made.append(body(inputs[0], inputs[2]))
            made.append(self.op("Identity", inputs[1]))

        inside = self.apart(write)
        following, goes_on = made
        self._scope = scope
        types: tuple[npt.DTypeLike, ...] = (np.int64, np.bool_, kind)
        shapes: tuple[Shape | None, ...] = ([], [], None)
        values = [
            helper.make_tensor_value_info(value, _element_type(dtype), shape)
            for value, dtype, shape in zip(
                (*inputs, goes_on, following), (*types, *types[1:]), (*shapes, *shapes[1:]), strict=True
            )
        ]
        graph = helper.make_graph(inside, name, values[:3], values[3:])
        self._nodes.append(helper.make_node("Loop", [rounds, "", start], [name], name=name, body=graph))
        return name

    def apart(self, write: Callable[[], None]) -> list[NodeProto]:
        """Return the nodes that `write` adds, which are not part of this graph: for one inside it."""
        around, self._nodes = self._nodes, []
        write()
        inside, self._nodes = self._nodes, around
        return inside

    def add(self, nodes: Iterable[NodeProto]) -> None:
        """Add nodes as they are."""
        self._nodes.extend(nodes)

    def name(self, name: str, value: str) -> None:
        """Give a value a name that others know it by."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))

    def model(self, doc: str, metadata: dict[str, str]) -> ModelProto:
        """The whole, once, as a ModelProto, weights inside it, `metadata` in its metadata_props."""
        graph = self._model.graph
        graph.name, graph.doc_string = self._name, doc
        graph.node.extend(self._nodes)
        graph.input.extend(self._inputs)
        graph.output.extend(self._outputs)
        self._model.opset_import.append(helper.make_opsetid("", OPSET))
        helper.set_model_props(self._model, metadata)
        return self._model

    def _node(self, kind: str, inputs: tuple[str, ...], outputs: int, attributes: dict[str, Attribute]) -> list[str]:
        name = self._name_of(kind)
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        node = helper.make_node(kind, inputs, names, name=name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self._nodes.append(node)
        return names

    def _name_of(self, kind: str) -> str:
        path = f"{self._scope}/{kind}" if self._scope else kind
        name = f"{path}_{self._count[path]}"
        self._count[path] += 1
        return name


def _element_type(dtype: npt.DTypeLike) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
