"""The networks for GPUs, run by ONNX Runtime on the CPU, against transformers on PyTorch."""

import pytest

from export import verify as comparison
from export.__main__ import main
from export.checkpoint import checkpoint
from export.network import network
from export.network.runner import Network
from export.pipeline import save
from tests.support import reference
from tests.support.checkpoints.folders import write_bert

SMALL = [{"act": "gelu_new"}, {"hidden": 48, "heads": 12, "layers": 2, "intermediate": 31}, {"pooler": False}]


def verify(folder, path, half):
    source = checkpoint.load(str(folder))
    layers, length = (-1,), source.defaults.max_seq_len
    pooler = source.weights.has("pooler.dense.weight")
    save(network.build(source.encoder, source.weights, layers, pooler, True, half), path)
    return comparison.compare(Network(path), source, layers, length, half)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("options", SMALL, ids=str)
def test_the_padded_network_equals_transformers(tmp_path, options, half):
    write_bert(tmp_path / "checkpoint", **options)
    assert verify(tmp_path / "checkpoint", tmp_path / "model.onnx", half)


@pytest.mark.parametrize("half", [False, True])
def test_the_padded_network_of_the_default_model_equals_transformers(tmp_path, half):
    differences = verify(reference.checkpoint(), tmp_path / "model.onnx", half)
    assert [difference.output for difference in differences] == ["token_embeddings", "pooled", "pooler_output"]


def test_an_fp16_export_for_the_onnxruntime_backend_equals_transformers(tmp_path, capsys):
    options = ["--backend", "onnxruntime", "--gpus", "all", "--precision", "fp16", "--verify"]
    assert main([str(reference.checkpoint()), "--repository", str(tmp_path), *options]) == 0
    assert "pooled" in capsys.readouterr().out
