"""Networks as files, written without a second copy of their weights in memory.

The protobuf library makes a copy of a message to serialise it, and onnx.checker two more of what it reads. Weights are
nearly all of a network. So the rest is serialised and checked alone, and tensors are written one after the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper

_ALIGNMENT = 4096  # of a tensor in a file of weights, so that it can be mapped
_SMALL = 1024  # bytes up to which a tensor stays in the graph, where the checker reads shapes and axes


def check(model: ModelProto) -> None:
    """Has onnx.checker check a network; its weights are to it inputs of their types and shapes.

    Raises:
        onnx.checker.ValidationError, onnx.shape_inference.InferenceError: it is not valid.
    """
    checked = _without_initializers(model)
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) <= _SMALL:
            checked.graph.initializer.append(tensor)
        else:
            checked.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.checker.check_model(checked, full_check=True)


def write(model: ModelProto, path: Path, external_data: bool = False) -> None:
    """Write a network.

    Args:
        model: The network, its weights in it.
        path: The file.
        external_data: Whether weights go into PATH.data, beside the file, as they must over 2 GB.
    """
    if external_data:
        _write_beside(model, path)
        return
    # As protobuf has it: a field is its key and, before a message, the length of it.
    head = _without_initializers(model)
    graph = head.graph.SerializeToString()
    head.ClearField("graph")
    keys = [
        _key(GraphProto.INITIALIZER_FIELD_NUMBER) + _varint(tensor.ByteSize()) for tensor in model.graph.initializer
    ]
    size = len(graph) + sum(map(len, keys)) + sum(tensor.ByteSize() for tensor in model.graph.initializer)
    with path.open("wb") as file:
        file.write(head.SerializeToString() + _key(ModelProto.GRAPH_FIELD_NUMBER) + _varint(size) + graph)
        for key, tensor in zip(keys, model.graph.initializer, strict=True):
            file.write(key)
            file.write(tensor.SerializeToString())


def _write_beside(model: ModelProto, path: Path) -> None:
    head = _without_initializers(model)
    data = path.with_name(f"{path.name}.data")
    with data.open("wb") as file:
        for tensor in model.graph.initializer:
            small = len(tensor.raw_data) <= _SMALL
            head.graph.initializer.append(tensor if small else _put(tensor, file, data.name))
    path.write_bytes(head.SerializeToString())


def _put(tensor: TensorProto, file: BinaryIO, location: str) -> TensorProto:
    """Write a tensor's values at the end of a file, and return the tensor that refers to them."""
    file.write(bytes(-file.tell() % _ALIGNMENT))
    where = {"location": location, "offset": file.tell(), "length": len(tensor.raw_data)}
    file.write(tensor.raw_data)
    outside = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    outside.data_location = TensorProto.EXTERNAL
    for key, value in where.items():
        outside.external_data.add(key=key, value=str(value))
    return outside


def _without_initializers(model: ModelProto) -> ModelProto:
    """A copy without weights and constants; of the fields that `graph.Graph` sets."""
    graph = model.graph
    rest = GraphProto(
        name=graph.name, doc_string=graph.doc_string, node=graph.node, input=graph.input, output=graph.output
    )
    return ModelProto(
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        opset_import=model.opset_import,
        metadata_props=model.metadata_props,
        graph=rest,
    )


def _key(field: int) -> bytes:
    """What stands before a field of a message that is a message itself."""
    return _varint(field << 3 | 2)


def _varint(number: int) -> bytes:
    """A number as protobuf has it: seven bits a byte, the least first, and the eighth set where more follow."""
    groups = [number >> shift & 0x7F for shift in range(0, max(1, number.bit_length()), 7)]
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])
