"""`export --backend tensorrt --precision int8`, with ONNX Runtime in TensorRT's place where there is no GPU."""

import shutil

import onnxruntime
import pytest

from export import pipeline
from export.__main__ import main
from export.int8 import accuracy, quantize
from export.network import runner
from tests.support.checkpoints.folders import write_bert

pytestmark = pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < quantize.LEAST_VERSION, reason="onnxruntime is too old"
)


class InTensorRTsPlace:
    """Builds "engines" that ONNX Runtime runs; `made_of`, where it is given, are of that network."""

    version = "of ONNX Runtime"
    made_of = None
    built = 0

    def __init__(self, device: int) -> None:
        self.notes: list[str] = []

    def build(self, network, plan, options) -> None:
        type(self).built += 1
        shutil.copyfile(self.made_of or network, plan)

    def load(self, plan, options) -> runner.Network:
        return runner.Network(plan)


@pytest.fixture
def export(tmp_path, monkeypatch, capsys):
    """export(*options): exit status, output and error of an export of a small checkpoint as an INT8 engine."""
    monkeypatch.setattr(accuracy, "TEXTS", 50)
    monkeypatch.setattr(pipeline, "TensorRT", InTensorRTsPlace)
    monkeypatch.setattr(InTensorRTsPlace, "built", 0)
    write_bert(tmp_path / "checkpoint")

    def export(*options: str):
        arguments = [str(tmp_path / "checkpoint"), "--repository", str(tmp_path / "repository")]
        return main([*arguments, "--backend", "tensorrt", "--precision", "int8", *options]), *capsys.readouterr()

    return export


def test_the_network_is_measured_before_the_engine_is_built_and_the_engine_after(export, tmp_path):
    status, out, _ = export()
    assert status == 0
    lines = [line for line in out.splitlines() if "cosine to FP32" in line or "building the engine" in line]
    assert ["cosine" in line for line in lines] == [True, False, True]
    assert lines[0] == lines[2]  # it is the same network, in the same runtime
    files = [path.name for path in (tmp_path / "repository/bert_encoder/1").iterdir() if path.suffix != ".py"]
    assert files == ["identity", "model.plan"]


def test_an_int8_network_that_is_not_near_enough_is_never_built(export, tmp_path):
    status, _, err = export("--least-cosine", "0.99999999")
    assert status == 1 and "below 0.99999999: export in FP16, or lower --least-cosine" in err
    assert InTensorRTsPlace.built == 0 and list((tmp_path / "repository").iterdir()) == []


def test_an_engine_that_computes_something_else_is_refused(export, tmp_path, monkeypatch):
    write_bert(tmp_path / "other", seed=1)
    assert main([str(tmp_path / "other"), "--repository", str(tmp_path / "others"), "--backend", "onnxruntime"]) == 0
    monkeypatch.setattr(InTensorRTsPlace, "made_of", tmp_path / "others/bert_encoder/1/model.onnx")
    status, out, err = export()
    assert status == 1 and InTensorRTsPlace.built == 1 and out.count("cosine to FP32") == 2
    assert "lowest cosine to FP32 is" in err and list((tmp_path / "repository").iterdir()) == []


@pytest.mark.parametrize(("version", "status"), [("1.29.2", 1), ("1.30.0", 0), ("2.0.0", 0)])
def test_an_onnx_runtime_that_would_measure_wrongly_is_refused(export, tmp_path, monkeypatch, version, status):
    monkeypatch.setattr(onnxruntime, "__version__", version)
    found, _, err = export()
    assert found == status and (tmp_path / "repository").exists() == (not status)
    assert ("needs onnxruntime 1.30 or later" in err and err.count("\n") == 1) == bool(status)
