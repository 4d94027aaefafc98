"""What is done to products before they become INT8: nothing changes, but every row that is read has one range."""

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.int8.products import scale_by_row, split_from_bias


def network(with_bias: bool) -> ModelProto:
    rng = np.random.default_rng(0)
    arrays = {"weight": rng.standard_normal((3, 8)), "bias": rng.standard_normal(3)}
    names = ["x", "weight", "bias"] if with_bias else ["x", "weight"]
    graph = helper.make_graph(
        [helper.make_node("Gemm", names, ["y"], name="product", transB=1)],
        "one product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items() if name in names],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def run(model: ModelProto, x: np.ndarray, *names: str) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([*names], {"x": x})


@pytest.mark.parametrize("with_bias", [True, False])
def test_rows_are_brought_to_one_range_and_nothing_else_changes(with_bias):
    x = np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)
    x *= np.array([[1], [1000], [0], [1e-6], [30]], np.float32)  # one of zeros
    model = network(with_bias)
    (expected,) = run(model, x, "y")
    split_from_bias(model.graph, {"product"})
    scale_by_row(model.graph, {"product"})
    (product,) = [node for node in model.graph.node if node.op_type == "MatMul"]
    model.graph.output.append(helper.make_tensor_value_info(product.input[0], TensorProto.FLOAT, ["N", 8]))
    found, read = run(model, x, "y", product.input[0])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.abs(read).max(axis=1), [1, 1, 0, 1, 1], rtol=1e-6)
