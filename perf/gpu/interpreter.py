"""The ONNX operators that our graphs are written of, on PyTorch, node by node.

It is for proving a graph's arithmetic on a device for which there is nothing but PyTorch: slow, and as literal as the
description of ONNX's operators. Numbers are kept in the types that the graph gives them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional

Arrays = dict[str, np.ndarray]

_TYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}


class Interpreter:
    """A network on a device.

    Attributes:
        outputs: Names of the network's outputs.
    """

    def __init__(self, model: onnx.ModelProto, device: str = "cpu") -> None:
        """Take the weights of `model` to `device`.

        Raises:
            NotImplementedError: It has an operator that is not known here.
        """
        self._device = torch.device(device)
        self._graph = model.graph
        self.outputs = [output.name for output in model.graph.output]
        unknown = sorted({node.op_type for node in _all_nodes(model.graph)} - {*_OPERATORS, "Loop"})
        if unknown:
            raise NotImplementedError(f"operators that are not interpreted: {', '.join(unknown)}")
        self._weights = {
            tensor.name: self._on_device(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer
        }

    @torch.inference_mode()
    def run(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """The outputs for these inputs."""
        inputs = {name: self._on_device(array) for name, array in feed.items()}
        found = self._computed(self._graph, {**self._weights, **inputs})
        return {name: value.cpu().numpy() for name, value in zip(self.outputs, found, strict=True)}

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(array)).to(self._device)

    def _computed(self, graph: onnx.GraphProto, values: dict[str, Tensor]) -> list[Tensor]:
        """The outputs of a graph, from the values of what is outside it."""
        uses = Counter(name for node in graph.node for name in _read(node))
        uses.update(output.name for output in graph.output)
        for node in graph.node:
            found = self._loop(node, values) if node.op_type == "Loop" else self._one(node, values)
            values.update(zip(node.output, found, strict=True))
            for name in _read(node):  # what nobody reads any more is let go
                uses[name] -= 1
                if not uses[name] and name not in self._weights:
                    values.pop(name, None)
        return [values[output.name] for output in graph.output]

    def _one(self, node: NodeProto, values: Mapping[str, Tensor]) -> Sequence[Tensor]:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        found = _OPERATORS[node.op_type](*(values[name] if name else None for name in node.input), **attributes)
        return [found] if isinstance(found, Tensor) else found

    def _loop(self, node: NodeProto, values: Mapping[str, Tensor]) -> Sequence[Tensor]:
        """A loop that runs so many rounds, whatever its condition is: `Graph.loop` has none."""
        body = node.attribute[0].g
        carried = [values[name] for name in node.input[2:]]
        names = [value.name for value in body.input]
        for number in range(int(values[node.input[0]])):
            of_round = [torch.tensor(number, device=self._device), torch.tensor(True, device=self._device), *carried]
            carried = self._computed(body, {**values, **dict(zip(names, of_round, strict=True))})[1:]
        return carried


def _all_nodes(graph: onnx.GraphProto) -> list[NodeProto]:
    inside = [inner for node in graph.node for a in node.attribute if a.HasField("g") for inner in _all_nodes(a.g)]
    return [*graph.node, *inside]


def _read(node: NodeProto) -> list[str]:
    """Names of all that a node reads, what the body of a loop reads of what is outside it included."""
    inside = (name for a in node.attribute if a.HasField("g") for inner in a.g.node for name in _read(inner))
    return [*node.input, *inside]


def _ints(x: Tensor) -> list[int]:
    return [int(value) for value in x.flatten().tolist()]


def _reduced(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A reduction over the axes that an input has, all of them without one."""

    def reduce(x: Tensor, axes: Tensor | None = None, keepdims: int = 1) -> Tensor:
        over = list(range(x.dim())) if axes is None else _ints(axes)
        return function(x, dim=over, keepdim=bool(keepdims))

    return reduce


def _extreme(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def of_all(*tensors: Tensor) -> Tensor:
        return list(accumulate(tensors, function))[-1]

    return of_all


def _gather(x: Tensor, places: Tensor, axis: int = 0) -> Tensor:
    axis %= x.dim()
    places = places.long()
    places = torch.where(places < 0, places + x.shape[axis], places)
    found = x.index_select(axis, places.flatten())
    return found.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def _slice(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    assert steps is None
    first, last = _ints(starts), _ints(ends)
    for axis, start, end in zip(_ints(axes) if axes is not None else range(len(first)), first, last, strict=True):
        begin, end, _ = slice(start, end).indices(x.shape[axis])
        x = x.narrow(axis, begin, max(0, end - begin))
    return x


def _reshape(x: Tensor, shape: Tensor, allowzero: int = 0) -> Tensor:
    sizes = _ints(shape)
    sizes = [x.shape[i] if size == 0 and not allowzero else size for i, size in enumerate(sizes)]
    if -1 in sizes and 0 in sizes:  # torch does not say what is left of nothing
        known = int(np.prod([size for size in sizes if size != -1])) or 1
        sizes[sizes.index(-1)] = x.numel() // known
    return x.reshape(sizes)


def _squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(_ints(axes)))


def _unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    added = _ints(axes)
    rank = x.dim() + len(added)
    for axis in sorted(axis % rank for axis in added):
        x = x.unsqueeze(axis)
    return x


def _split(x: Tensor, sizes: Tensor | None = None, axis: int = 0, num_outputs: int = 0) -> Sequence[Tensor]:
    return x.split(x.shape[axis] // num_outputs if sizes is None else _ints(sizes), axis)


def _pad(x: Tensor, pads: Tensor, value: Tensor | None = None) -> Tensor:
    amounts = _ints(pads)
    rank = x.dim()
    pairs = [(amounts[axis], amounts[axis + rank]) for axis in reversed(range(rank))]  # torch: the last axis first
    return functional.pad(x, [amount for pair in pairs for amount in pair], value=0 if value is None else value.item())


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(_ints(shape))))


def _scatter(x: Tensor, places: Tensor, updates: Tensor, axis: int = 0, reduction: bytes = b"none") -> Tensor:
    if reduction == b"add":
        return x.scatter_add(axis, places, updates)
    assert reduction == b"none"
    return x.scatter(axis, places, updates)


def _gemm(x: Tensor, weight: Tensor, bias: Tensor | None = None, transB: int = 0) -> Tensor:  # noqa: N803
    return functional.linear(x, weight if transB else weight.T, bias)


def _layer_norm(x: Tensor, scale: Tensor, bias: Tensor | None = None, axis: int = -1, epsilon: float = 1e-5) -> Tensor:
    assert axis == -1
    return functional.layer_norm(x, scale.shape, scale, bias, epsilon)


def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.softmax(axis)


def _gelu(x: Tensor, approximate: bytes = b"none") -> Tensor:
    return functional.gelu(x, approximate=approximate.decode())


def _leaky_relu(x: Tensor, alpha: float = 0.01) -> Tensor:
    return functional.leaky_relu(x, alpha)


def _arg_max(x: Tensor, axis: int = 0, keepdims: int = 1) -> Tensor:
    """The first of equal ones, which torch does not promise."""
    highest = x == x.amax(axis, keepdim=True)
    order = torch.arange(x.shape[axis], 0, -1, device=x.device)
    return (highest * order.reshape([-1] + [1] * (x.dim() - 1 - axis % x.dim()))).argmax(axis, keepdim=bool(keepdims))


def _top_k(x: Tensor, count: Tensor, axis: int = -1, largest: int = 1, sorted: int = 1) -> Sequence[Tensor]:
    """The first of equal ones first."""
    values, places = x.sort(dim=axis, descending=bool(largest), stable=True)
    taken = int(count)
    return values.narrow(axis, 0, taken), places.narrow(axis, 0, taken)


def _cast(x: Tensor, to: int) -> Tensor:
    return x.to(_TYPES[to])


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(int(start), int(limit), int(delta), device=start.device)


def _cumulative_sum(x: Tensor, axis: Tensor) -> Tensor:
    return x.cumsum(int(axis), dtype=x.dtype)


def _beside(x: Tensor, scale: Tensor, axis: int) -> Tensor:
    """A scale or zero point for the whole, or for each place of an axis, as what broadcasts to `x`."""
    return (
        scale.reshape([-1] + [1] * (x.dim() - 1 - axis % x.dim())) if scale.dim() == 1 and scale.numel() > 1 else scale
    )


def _limits(kind: torch.dtype) -> tuple[int, int]:
    info = torch.iinfo(kind)
    return info.min, info.max


def _quantize(x: Tensor, scale: Tensor, zero: Tensor | None = None, axis: int = 1) -> Tensor:
    kind = torch.uint8 if zero is None else zero.dtype
    steps = (x.float() / _beside(x, scale, axis).float()).round()
    if zero is not None:
        steps = steps + _beside(x, zero, axis).float()
    return steps.clamp(*_limits(kind)).to(kind)


def _dequantize(x: Tensor, scale: Tensor, zero: Tensor | None = None, axis: int = 1) -> Tensor:
    steps = x.float() if zero is None else x.float() - _beside(x, zero, axis).float()
    return (steps * _beside(x, scale, axis).float()).to(scale.dtype)


def _quantize_dynamically(x: Tensor) -> Sequence[Tensor]:
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (high - low) / 255
    zero = (-low / scale).round().clamp(0, 255).to(torch.uint8)
    return _quantize(x, scale, zero), scale, zero


def _integer_product(a: Tensor, b: Tensor, a_zero: Tensor, b_zero: Tensor) -> Tensor:
    """In FP64, which holds such sums, since PyTorch multiplies no integers on GPUs."""
    return ((a.double() - a_zero.double()) @ (b.double() - b_zero.double())).round().to(torch.int32)


_OPERATORS: dict[str, Callable[..., Tensor | Sequence[Tensor]]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "And": torch.logical_and,
    "ArgMax": _arg_max,
    "Cast": _cast,
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "CumSum": _cumulative_sum,
    "DequantizeLinear": _dequantize,
    "Div": lambda a, b: torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc"),
    "DynamicQuantizeLinear": _quantize_dynamically,
    "Equal": torch.eq,
    "Expand": _expand,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "Greater": torch.gt,
    "Identity": lambda x: x,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky_relu,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "MatMulInteger": _integer_product,
    "Max": _extreme(torch.maximum),
    "Min": _extreme(torch.minimum),
    "Mul": torch.mul,
    "NonZero": lambda x: x.nonzero().T,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "Range": _range,
    "Reciprocal": torch.reciprocal,
    "ReduceL2": _reduced(torch.linalg.vector_norm),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceSum": _reduced(torch.sum),
    "Relu": torch.relu,
    "Reshape": _reshape,
    "ScatterElements": _scatter,
    "Shape": lambda x: torch.tensor(x.shape, device=x.device),
    "Sigmoid": torch.sigmoid,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": torch.sqrt,
    "Squeeze": _squeeze,
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "Tile": lambda x, times: x.tile(tuple(_ints(times))),
    "TopK": _top_k,
    "Transpose": lambda x, perm: x.permute(perm),
    "Unsqueeze": _unsqueeze,
    "Where": torch.where,
}
