"""INT8 forms of networks of every architecture, run by ONNX Runtime."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from export.int8 import quantize
from export.network import network
from export.network.batches import laid_end_to_end, padded, without_padding
from export.pipeline import save
from tests.support import architecture_vectors
from tests.support.architecture_vectors import Ids
from tests.support.checkpoints.architectures import KINDS, VARIANTS, Drawn, read

EACH = pytest.mark.parametrize("name", KINDS)


def texts(encoder) -> list[Ids]:
    return [Ids(ids) for ids in architecture_vectors.rows(encoder)]


def run(model: onnx.ModelProto, encodings: list[Ids], is_padded: bool) -> np.ndarray:
    """token_embeddings, by a runtime that computes what the nodes say: Q/DQ pairs are not made products of INT8."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = padded(encodings) if is_padded else laid_end_to_end(encodings)
    found = dict(zip([output.name for output in session.get_outputs()], session.run(None, feed), strict=True))
    return (without_padding(found, encodings) if is_padded else found)["token_embeddings"]


def exact(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with sums of INT8 products as they are: of eight bits, ONNX Runtime cuts them off without VNNI."""
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type != "MatMulInteger":
            model.graph.node.append(node)
            continue
        factors = []
        for value, zero in zip(node.input[:2], node.input[2:], strict=True):
            wide = [f"{node.name}/{value}/{part}" for part in ("value", "zero", "factor")]
            model.graph.node.extend(
                helper.make_node("Cast", [narrow], [name], to=onnx.TensorProto.FLOAT)
                for narrow, name in zip((value, zero), wide, strict=False)
            )
            model.graph.node.append(helper.make_node("Sub", wide[:2], wide[2:]))
            factors.append(wide[2])
        product = f"{node.name}/product"
        model.graph.node.append(helper.make_node("MatMul", factors, [product]))
        model.graph.node.append(helper.make_node("Cast", [product], node.output, to=onnx.TensorProto.INT32))
    return model


def check_near(found: np.ndarray, expected: np.ndarray) -> None:
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert 0.99 < cosines.min() < 0.9999999, cosines.min()  # near, and not FP32 under another name


def products(encoder, of_a_layer: int) -> int:
    """Those that become INT8, of so many in a layer and one more where it has a gate."""
    return sum(of_a_layer + (layer.gate is not None) for layer in encoder.layers)


@EACH
def test_the_form_for_cpus_is_near_to_fp32(tmp_path, name):
    encoder = read(VARIANTS[name])
    original = network.build(encoder, Drawn())
    save(original, tmp_path / "fp32.onnx")
    encodings = texts(encoder)
    quantize.dynamic(tmp_path / "fp32.onnx", tmp_path / "model.onnx", encoder, encodings)
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    found = onnx.load(tmp_path / "model.onnx")
    assert Counter(node.op_type for node in found.graph.node)["MatMulInteger"] == products(encoder, 4)
    vectors = run(found, encodings, False)
    check_near(vectors, run(original, encodings, False))
    np.testing.assert_allclose(vectors, run(exact(found), encodings, False), atol=1e-4)  # no sum is cut off


@EACH
def test_the_form_for_tensorrt_is_near_to_fp32(tmp_path, name):
    encoder = read(VARIANTS[name])
    encodings = texts(encoder)
    expected = run(network.build(encoder, Drawn(), is_padded=True), encodings, True)
    quantize.static(network.build(encoder, Drawn(), is_padded=True), tmp_path / "model.onnx", encoder, encodings)
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    found = onnx.load(tmp_path / "model.onnx")
    nodes = found.graph.node
    made_by = {output: node.op_type for node in nodes for output in node.output}
    whole = [n for n in nodes if n.op_type == "MatMul" and all(made_by.get(i) == "DequantizeLinear" for i in n.input)]
    assert len(whole) == products(encoder, 3)
    check_near(run(found, encodings, True), expected)
