import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from export.__main__ import main
from export.int8 import accuracy
from export.network.layout import INPUTS, shape_of
from tests.support import reference
from tests.support.checkpoints import plain_bert


@pytest.fixture
def export(tmp_path, monkeypatch, capsys):
    """export(*options): exit status, output and error of an INT8 export of the default model."""
    monkeypatch.setattr(accuracy, "TEXTS", 50)

    def export(*options: str):
        arguments = [str(reference.checkpoint()), "--repository", str(tmp_path), "--precision", "int8", *options]
        return main(arguments), *capsys.readouterr()

    return export


def test_an_int8_network_is_near_to_the_plain_forward_pass(export, tmp_path):
    status, out, _ = export()
    assert status == 0 and "cosine to FP32 over 50 texts: mean 0.99" in out
    path = tmp_path / "bert_encoder/1/model.onnx"
    graph = onnx.load(path).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MatMulInteger") == 4 * 6  # in each layer: query-key-value, attention output, feed-forward's two
    assert [node.attribute[0].s for node in graph.node if node.op_type == "Gelu"] == [b"tanh"] * 6
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    assert sorted(file.name for file in path.parent.iterdir() if file.suffix != ".py") == ["identity", "model.onnx"]

    weights = load_file(reference.checkpoint() / "model.safetensors")
    ids = (
        Tokenizer.from_file(str(reference.checkpoint() / "tokenizer.json")).encode("First do it, then do it right.").ids
    )
    ids = [i for i in ids if i]  # without padding
    ones = np.ones(len(ids), np.int32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (pooled,) = session.run(
        ["pooled"],
        {
            "input_ids": np.array(ids, np.int32),
            "attention_mask": ones,
            "token_type_ids": 0 * ones,
            "pooling_mask": ones,
        }
        | dict.fromkeys(map(shape_of, INPUTS), np.array([[len(ids)]], np.int32)),
    )
    expected = plain_bert.layers(weights, ids, heads=12)[-1].mean(0)
    cosine = pooled[0, 0] @ expected / np.linalg.norm(pooled[0, 0]) / np.linalg.norm(expected)
    assert 0.99 < cosine < 0.99999  # near, and not FP32 under another name


def test_an_int8_network_that_is_not_near_enough_is_refused(export, tmp_path):
    status, _, err = export("--least-cosine", "0.9999")
    assert status == 1 and "below 0.9999" in err and "--least-cosine" in err
    assert list(tmp_path.iterdir()) == []
