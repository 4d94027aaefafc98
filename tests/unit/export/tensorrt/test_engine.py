"""TensorRT engines. What needs a GPU runs where there is one, and is skipped elsewhere with the reason."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest

from export.__main__ import main
from export.errors import ExportError
from export.tensorrt import engine
from export.tensorrt.build_progress import BuildProgress
from export.tensorrt.summary import summarise
from tests.support import reference
from tests.support.checkpoints.folders import write_bert

HAS_TENSORRT = importlib.util.find_spec("tensorrt") is not None
NEEDS_TENSORRT = pytest.mark.skipif(not HAS_TENSORRT, reason="the tensorrt package is not installed")


def why_no_engine() -> str:
    """Why no engine can be built here; empty if one can."""
    try:
        engine.TensorRT()
    except ExportError as error:
        return str(error)
    return ""


@pytest.mark.skipif(HAS_TENSORRT, reason="the tensorrt package is installed")
def test_without_tensorrt_it_says_what_to_do(tmp_path, capsys):
    write_bert(tmp_path / "checkpoint")
    arguments = [str(tmp_path / "checkpoint"), "--repository", str(tmp_path / "repository"), "--backend", "tensorrt"]
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "needs tensorrt and cuda-bindings" in err and "TensorRT container" in err
    assert not (tmp_path / "repository").exists()


@NEEDS_TENSORRT
def test_every_name_of_tensorrt_that_is_used_exists():
    import tensorrt

    used = set(re.findall(r"\btrt\.((?:\w+\.)*\w+)", Path(engine.__file__).read_text()))
    assert "NetworkDefinitionCreationFlag.STRONGLY_TYPED" in used
    for name in used:
        value = tensorrt
        for part in name.split("."):
            value = getattr(value, part)


@NEEDS_TENSORRT
def test_every_method_of_tensorrts_objects_that_is_used_exists():
    import tensorrt

    kinds = {
        "builder": tensorrt.Builder,
        "config": tensorrt.IBuilderConfig,
        "context": tensorrt.IExecutionContext,
        "_engine": tensorrt.ICudaEngine,
        "engine": tensorrt.ICudaEngine,
        "inspector": tensorrt.EngineInspector,
        "parser": tensorrt.OnnxParser,
        "_runtime": tensorrt.Runtime,
        "shapes": tensorrt.IOptimizationProfile,
    }
    seen = set()
    for node in ast.walk(ast.parse(Path(engine.__file__).read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if owner in kinds:
                assert hasattr(kinds[owner], node.attr), f"{owner}.{node.attr}"
                seen.add(owner)
    assert seen == set(kinds)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_is_built_and_computes_what_transformers_does(tmp_path, capsys, precision):
    if reason := why_no_engine():
        pytest.skip(reason)
    pytest.importorskip("torch", reason="--verify needs PyTorch")
    arguments = [str(reference.checkpoint()), "--repository", str(tmp_path / "repository"), "--backend", "tensorrt"]
    assert main([*arguments, "--precision", precision, "--verify", "--timing-cache", str(tmp_path / "cache")]) == 0
    out = capsys.readouterr().out
    assert "layers: " in out and "pooled" in out and (tmp_path / "cache").stat().st_size
    files = sorted(path.name for path in (tmp_path / "repository/bert_encoder/1").iterdir() if path.suffix != ".py")
    assert files == ["identity", "model.plan"]


def test_the_timing_cache_is_kept_for_each_version_in_the_users_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert engine.default_timing_cache("11.4.0") == Path("/cache/bert-on-triton/tensorrt-11.4.0.timing")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert engine.default_timing_cache("10.13.3") == Path("/home/me/.cache/bert-on-triton/tensorrt-10.13.3.timing")


def layer(*outputs: dict[str, str]) -> dict[str, object]:
    return {"Name": "x", "LayerType": "gemm", "Outputs": list(outputs)}


@pytest.mark.parametrize(
    ("half", "single"),
    [
        ({"Format/Datatype": "Row major linear FP16 format (kLINEAR)"}, {"Format/Datatype": "Row major linear FP32"}),
        ({"DataType": "Half", "Format": "Row major linear"}, {"DataType": "Float", "Format": "Row major linear"}),
    ],
    ids=["TensorRT 10", "TensorRT 11"],
)
def test_the_layers_of_an_engine_are_counted_by_precision(half, single):
    report = {"Layers": [layer(half), layer(half), layer(single), layer(half, single), layer()]}
    assert summarise(json.dumps(report)) == "5 layers: 2 FP16, 1 FP32, 1 FP16+FP32, 1 unnamed"


def test_an_engine_without_details_is_summarised_too():
    assert summarise('{"Layers": ["first", "second"]}') == "2 layers: 2 unnamed"
    assert summarise("{}") == "no layers are listed"


def test_phases_of_a_build_may_nest_and_end_early():
    progress = BuildProgress()
    progress.start("Building Engine", 3)
    progress.start("Timing", 100)
    assert progress.step("Timing", 0) and progress.step("Building Engine", 0)
    progress.finish("Timing")
    assert progress.step("Timing", 1)  # late, of a phase that has ended
    progress.finish("Building Engine")
    progress.finish("never begun")
    assert not progress.interrupted


def test_ctrl_c_in_a_callback_stops_the_build_at_its_next_step(monkeypatch):
    progress = BuildProgress()
    progress.start("Building Engine", 3)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(progress._bars["Building Engine"], "update", interrupted)
    assert not progress.step("Building Engine", 0)
    assert progress.interrupted
