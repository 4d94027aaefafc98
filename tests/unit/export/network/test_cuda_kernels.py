"""Every operator of the padding-free networks has a kernel of ONNX Runtime's for GPUs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import onnx
import pytest
from onnx import helper

from export.network import network
from export.network.layout import MORE_REDUCTIONS, REDUCTIONS
from tests.support.checkpoints.architectures import (
    CLASSIFIERS,
    MASKED_LMS,
    TOKEN_VECTORS,
    VARIANTS,
    Drawn,
    read,
    read_classifier,
    read_splade,
    read_token_vectors,
)
from tests.support.places import DATA

KERNELS = json.loads((DATA / "onnxruntime_cuda_kernels.json").read_text())
DECIDES = {"Where": 1}  # the input whose type decides, where that is not the first
HALF = pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])


def operators(graph: onnx.GraphProto, outside: dict[str, int] | None = None) -> Iterator[tuple[str, str]]:
    """The operators of a graph and of the loops in it, each with the type that decides."""
    kinds = dict(outside or {})
    for value in (*graph.input, *graph.value_info, *graph.output):
        kinds[value.name] = value.type.tensor_type.elem_type
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        dtype = helper.tensor_dtype_to_np_dtype(kinds[node.input[DECIDES.get(node.op_type, 0)]])
        yield node.op_type, dtype.name
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from operators(attribute.g, kinds)


def without_kernel(model: onnx.ModelProto) -> set[tuple[str, str]]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    every = set(operators(graph))
    return {(op, kind) for op, kind in every if op not in KERNELS["any"] and kind not in KERNELS["types"].get(op, ())}


@HALF
@pytest.mark.parametrize("name", VARIANTS)
def test_networks_of_every_architecture_stay_on_the_gpu(name, half):
    encoder, reductions = read(VARIANTS[name]), (*REDUCTIONS, *MORE_REDUCTIONS)
    pooler = encoder.pooler is not None
    model = network.build(encoder, Drawn(), (-1, 0), pooler, False, half, reductions, prompts_apart=True)
    assert not without_kernel(model)


HEADS = [
    *((read(CLASSIFIERS[name]), read_classifier(CLASSIFIERS[name])) for name in CLASSIFIERS if " " in name),
    *((read(MASKED_LMS[name][0]), read_splade(name)) for name in MASKED_LMS if " " in name),
    *((read(VARIANTS[name]), read_token_vectors(name)) for name in TOKEN_VECTORS if " " in name),
]


@HALF
@pytest.mark.parametrize(("encoder", "head"), HEADS)
def test_networks_of_every_head_stay_on_the_gpu(encoder, head, half):
    assert not without_kernel(network.build(encoder, Drawn(), half=half, head=head))


def test_what_has_no_kernel_is_found():
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None) for name in "xy")
    nodes = [helper.make_node("ArgMax", ["x"], ["z"], axis=0), helper.make_node("Neg", ["z"], ["y"])]
    graph = helper.make_graph(nodes, "graph", [x], [y])
    assert without_kernel(helper.make_model(graph)) == {("ArgMax", "int64"), ("Neg", "int64")}
