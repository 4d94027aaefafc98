"""Moves range from activations into the weights that they are multiplied with, before both become INT8.

A few channels of a layer norm's output are many times as large as the others, and one scale for the whole tensor leaves
the others few of its 255 steps. Weights have a scale for each output channel and room to spare. So each input channel
is divided by a factor before the product, and its row of the weights multiplied by the same: nothing changes but the
rounding. This is SmoothQuant (Xiao et al., 2022, https://arxiv.org/abs/2211.10438).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import NodeProto, helper, numpy_helper

from export.network import onnx_file
from export.network.batches import Arrays

STRENGTH = 0.75
"""How much of the range is moved, from 0 to 1; of all-MiniLM-L6-v2, 0.75 keeps the most."""

_LEAST = 1e-5  # of what a factor is made of: channels that are always zero have one too


def smooth(model: onnx.ModelProto, products: Sequence[NodeProto], batches: Iterable[Arrays]) -> None:
    """Change `products` of a network so that their inputs' channels have like ranges.

    Args:
        model: The network, changed in place. Each product gets a Mul before it, which is named after it.
        products: Nodes of it: MatMul of an activation [..., in] and weights [in, out].
        batches: Inputs of the network to measure the activations with.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    largest = _largest(model, [node.input[0] for node in products], weights[products[0].input[1]].data_type, batches)
    inputs: dict[str, list[str]] = {}  # by weight, which layers may share
    for node in products:
        inputs.setdefault(node.input[1], []).append(node.input[0])
    for name, values in inputs.items():
        weight = numpy_helper.to_array(weights[name])
        activations = np.max([largest[value] for value in values], axis=0)
        factors = _factors(activations, np.abs(weight.astype(np.float32)).max(axis=1))
        weights[name].CopyFrom(_tensor(weight * factors[:, None], name, weight.dtype))
        graph.initializer.append(_tensor(1 / factors, f"{name}.smoothing", weight.dtype))
    scaled = {node.name for node in products}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.name in scaled:
            name = f"{node.name}.smoothed"
            graph.node.append(helper.make_node("Mul", [node.input[0], f"{node.input[1]}.smoothing"], [name], name=name))
            node.input[0] = name
        graph.node.append(node)


def _largest(
    model: onnx.ModelProto, values: Sequence[str], element_type: int, batches: Iterable[Arrays]
) -> dict[str, npt.NDArray[np.float32]]:
    """The largest |value| of each channel of activations [..., channels]."""
    outputs, names = model.graph.output, list(dict.fromkeys(values))
    own = len(outputs)
    outputs.extend(helper.make_tensor_value_info(name, element_type, None) for name in names)
    with TemporaryDirectory() as folder:  # one message takes 2 GB at most
        path = Path(folder) / "model.onnx"
        onnx_file.write(model, path, external_data=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    del outputs[own:]
    found: dict[str, npt.NDArray[np.float32]] = {}
    for batch in batches:
        for name, array in zip(names, session.run(names, batch), strict=True):
            channels = np.abs(array.astype(np.float32)).reshape(-1, array.shape[-1]).max(axis=0)
            found[name] = np.maximum(found[name], channels) if name in found else channels
    return found


def _factors(activations: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What each input channel is divided by, 1 on the (geometric) average."""
    logarithms = STRENGTH * np.log(np.maximum(activations, _LEAST))
    logarithms -= (1 - STRENGTH) * np.log(np.maximum(weights, _LEAST))
    factors: npt.NDArray[np.float32] = np.exp(logarithms - logarithms.mean()).astype(np.float32)
    return factors


def _tensor(array: npt.NDArray[np.float32], name: str, dtype: npt.DTypeLike) -> onnx.TensorProto:
    return numpy_helper.from_array(array.astype(dtype), name)
