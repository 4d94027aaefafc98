import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

from export.checkpoint import checkpoint
from export.network import network, onnx_file
from tests.support.checkpoints.folders import write_bert


@pytest.fixture(params=[False, True], ids=["fp32", "fp16"])
def model(tmp_path, request) -> ModelProto:
    write_bert(tmp_path)
    source = checkpoint.load(str(tmp_path))
    return network.build(source.encoder, source.weights, pooler=True, half=request.param)


@pytest.mark.parametrize("external_data", [False, True])
def test_what_was_written_is_read_back_as_it_was(model, tmp_path, external_data):
    path = tmp_path / "model.onnx"
    onnx_file.write(model, path, external_data)
    assert (tmp_path / "model.onnx.data").exists() == external_data
    read = onnx.load(path)
    for tensor in read.graph.initializer:  # onnx says of a tensor that it was outside
        tensor.ClearField("data_location")
    assert read == model
    onnx.checker.check_model(str(path), full_check=True)


def test_tensors_beside_a_network_can_be_mapped(model, tmp_path):
    onnx_file.write(model, tmp_path / "model.onnx", external_data=True)
    for tensor in onnx.load(tmp_path / "model.onnx", load_external_data=False).graph.initializer:
        where = {entry.key: entry.value for entry in tensor.external_data}
        assert not where or int(where["offset"]) % 4096 == 0


def test_a_network_is_checked_without_its_weights(model):
    onnx_file.check(model)
    names = [tensor.name for tensor in model.graph.initializer]
    at = names.index("encoder.layer.0.output.dense.weight")
    model.graph.initializer[at].CopyFrom(onnx.numpy_helper.from_array(np.zeros((32, 65), np.float32), names[at]))
    with pytest.raises(onnx.shape_inference.InferenceError, match="dense"):
        onnx_file.check(model)
    model.graph.node.append(helper.make_node("Relu", ["nothing"], ["something"]))
    with pytest.raises(onnx.checker.ValidationError, match="nothing"):
        onnx_file.check(model)
