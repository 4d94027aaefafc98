"""TensorRT engines. What needs a GPU runs where there is one, and is skipped elsewhere with the reason."""

import ast
import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.__main__ import main
from export.errors import ExportError
from export.network.layout import INPUTS
from export.network.network import build
from export.network.runner import Network
from export.tensorrt import engine
from export.tensorrt.build_progress import BuildProgress
from export.tensorrt.profiles import Profile
from export.tensorrt.summary import summarise
from tests.support import reference, stand_in_tensorrt
from tests.support.architecture_vectors import Ids
from tests.support.checkpoints.architectures import CLASSIFIERS, VARIANTS, Drawn, read, read_classifier
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
    assert err.count("\n") == 1 and "needs tensorrt and polygraphy" in err and "TensorRT container" in err
    assert not (tmp_path / "repository").exists()


@NEEDS_TENSORRT
def test_every_name_of_tensorrt_that_is_used_exists():
    import tensorrt

    used = set(re.findall(r"\btrt\.((?:\w+\.)*\w+)", Path(engine.__file__).read_text()))
    assert "ProfilingVerbosity.DETAILED" in used
    for name in used:
        value = tensorrt
        for part in name.split("."):
            value = getattr(value, part)


@NEEDS_TENSORRT
def test_every_method_of_tensorrts_objects_that_is_used_exists():
    import tensorrt

    kinds = {
        "config": tensorrt.IBuilderConfig,
        "_engine": tensorrt.ICudaEngine,
        "engine": tensorrt.ICudaEngine,
        "inspector": tensorrt.EngineInspector,
        "parser": tensorrt.OnnxParser,
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


@pytest.fixture
def stand_in(monkeypatch):
    """stand_in(**differences): TensorRT, and what stands in for its package, see tests/support/stand_in_tensorrt.py."""
    pytest.importorskip("polygraphy")
    from polygraphy import cuda
    from polygraphy.cuda import cuda as wrapped

    def make(device: int = 0, status: int = 0, **differences):
        trt, runtime = stand_in_tensorrt.module(**differences), stand_in_tensorrt.CudaRuntime(status)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        for name, module in list(sys.modules.items()):  # polygraphy keeps what it has imported
            if name.startswith(("polygraphy.backend.trt.", "polygraphy.datatype.")) and hasattr(module, "trt"):
                monkeypatch.setattr(module, "trt", trt)
        wrapper = wrapped.Cuda.__new__(wrapped.Cuda)
        object.__setattr__(wrapper, "handle", runtime)
        monkeypatch.setattr(wrapped, "G_CUDA", wrapper)
        assert cuda.wrapper() is wrapper
        library = engine.TensorRT(device)
        assert runtime.device == device
        return library, trt

    return make


@pytest.fixture
def network(tmp_path):
    """The path of a padded network."""
    path = tmp_path / "model.onnx"
    onnx.save(build(read(VARIANTS["bert"]), Drawn(), is_padded=True), path)
    return path


OPTIONS = engine.BuildOptions((Profile(1, 8), Profile(9, 66)), 6)


def test_an_engine_is_asked_for_as_the_options_say(stand_in, network, tmp_path):
    library, trt = stand_in(device=1)
    cache = tmp_path / "cache" / "timing"
    options = replace(OPTIONS, workspace=2**20, timing_cache=cache)
    library.build(network, tmp_path / "model.plan", options)
    every = [(name, ((1, 1), (3, 8), (6, 8))) for name in INPUTS], [(n, ((1, 9), (3, 66), (6, 66))) for n in INPUTS]
    assert trt.calls == [
        ("build", 1 << 1, set(), "DETAILED", {"WORKSPACE": 2**20}),  # strongly typed, without TF32
        *(("profile", *one) for one in every),
    ]
    assert (tmp_path / "model.plan").read_bytes() == network.read_bytes()
    assert cache.read_bytes() == b"measured" and library.notes == []
    library.build(network, tmp_path / "model.plan", options)
    assert cache.read_bytes() == b"measuredmeasured"  # of the first build, and what the second found


def test_a_timing_cache_that_is_refused_is_replaced_and_one_that_cannot_be_kept_is_said(stand_in, network, tmp_path):
    library, _ = stand_in(refuses="cache")
    cache = tmp_path / "timing"
    cache.write_bytes(b"of another GPU")
    library.build(network, tmp_path / "model.plan", replace(OPTIONS, timing_cache=cache))
    assert cache.read_bytes() == b"measured"
    library.build(network, tmp_path / "model.plan", replace(OPTIONS, timing_cache=cache / "below a file"))
    assert "was not kept" in library.notes[0]


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        ("parse", "TensorRT 11.4.0 cannot parse the network: what TensorRT says of it; use --backend onnxruntime"),
        ("build", "TensorRT 11.4.0 could not build the engine: what TensorRT says of it; give it more memory"),
        ("load", "TensorRT 11.4.0 cannot load the engine it built; run the export in NVIDIA's TensorRT container"),
        ("memory", "the engine's memory does not fit on the GPU; give fewer --max-batch-size"),
    ],
)
def test_what_tensorrt_refuses_is_said_in_one_line(stand_in, network, tmp_path, capfd, refused, expected):
    library, _ = stand_in(refuses=refused)
    options = replace(OPTIONS, timing_cache=tmp_path / "timing")
    with pytest.raises(ExportError, match=re.escape(expected)) as caught:
        library.build(network, tmp_path / "model.plan", options)
        library.load(tmp_path / "model.plan", options)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # nothing of polygraphy's own


def test_ctrl_c_during_a_build_ends_it(stand_in, network, tmp_path, monkeypatch):
    library, _ = stand_in()

    def interrupted(self, phase, step):
        self.interrupted = True
        return False

    monkeypatch.setattr(BuildProgress, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        library.build(network, tmp_path / "model.plan", replace(OPTIONS, timing_cache=tmp_path / "timing"))
    assert not (tmp_path / "model.plan").exists()


@pytest.mark.parametrize("differences", [{"status": 100}, {"Builder": lambda logger: int(None)}])
def test_a_machine_without_a_gpu_is_told_where_to_run_it(stand_in, differences):
    with pytest.raises(ExportError, match="cannot use a GPU here .*TensorRT container"):
        stand_in(**differences)


def test_an_older_tensorrt_is_refused(stand_in):
    with pytest.raises(ExportError, match="TensorRT 10.12.0 is too old; 10.13 or later"):
        stand_in(__version__="10.12.0")


@pytest.mark.parametrize("head", [None, "classifier"])
def test_each_text_runs_under_the_profile_of_its_length(stand_in, tmp_path, head):
    settings = CLASSIFIERS["bert"]
    path = tmp_path / "model.onnx"
    onnx.save(build(read(settings), Drawn(), is_padded=True, head=head and read_classifier(settings)), path)
    library, trt = stand_in()
    options = replace(OPTIONS, timing_cache=tmp_path / "timing", max_batch_size=2)
    library.build(path, tmp_path / "model.plan", options)
    loaded = library.load(tmp_path / "model.plan", options)
    assert str(loaded) == "1 layers: 1 unnamed; 5 MB of GPU memory in each execution context"
    texts = [Ids(list(range(3, 3 + length))) for length in (4, 30, 8, 1, 66)]
    found, expected = loaded.run(texts), Network(path).run(texts)
    assert [call for call in trt.calls if call[0] == "run"] == [
        ("run", 0, (2, 8)),
        ("run", 0, (1, 1)),
        ("run", 1, (2, 66)),
    ]
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5)


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
