import json
from importlib.metadata import version
from itertools import product

import pytest

from perf.__main__ import main
from perf.gpu import equality, found, networks, timing
from perf.gpu.results import ALLOWED, Comparison, Measured
from perf.gpu.runners import all_of
from tests.support.checkpoints.architectures import CLASSIFIERS, MASKED_LMS, TOKEN_VECTORS, VARIANTS
from tests.support.patience import PATIENCE


def test_there_is_a_network_of_every_architecture_and_head():
    assert len(networks.NAMES) == len(VARIANTS) + len(CLASSIFIERS) + len(MASKED_LMS) + len(TOKEN_VECTORS)
    assert set(networks.QUICK) < set(networks.NAMES)


def test_a_network_that_there_is_not_is_named(tmp_path, capsys):
    command = ["gpu", "--device", "cpu", "--only", "equality", "--networks", "gpt", "--output", str(tmp_path)]
    assert main(command) == 1
    assert "error: --networks 'gpt': there are bert, " in capsys.readouterr().err


def test_a_gpu_that_there_is_not_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(found, "_torch", lambda: ("2.0", False))
    monkeypatch.setattr(found, "_tensorrt", lambda: 1 / 0)
    monkeypatch.setattr(found, "_onnx_runtime", lambda: ("1.0", ["CPUExecutionProvider"]))
    assert main(["gpu", "--device", "cuda", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith("neither PyTorch, nor ONNX Runtime, nor TensorRT can use a GPU here\n")


def test_what_can_use_a_gpu_is_found(monkeypatch):
    monkeypatch.setattr(found, "_torch", lambda: ("2.0", True))
    monkeypatch.setattr(found, "_tensorrt", lambda: "11.4")
    monkeypatch.setattr(found, "_onnx_runtime", lambda: ("1.0", ["CUDAExecutionProvider", "CPUExecutionProvider"]))
    monkeypatch.setattr(found, "_nvidia_smi", {"name": "NVIDIA H100 80GB HBM3", "memory.used": "3"}.get)
    here = found.look()
    assert (here.device, here.slug, list(here.providers)) == ("cuda", "nvidia-h100-80gb-hbm3", ["cpu", "cuda"])
    assert here.parts["TensorRT"] == "11.4" and found.gpu_memory() == 3 * 2**20
    assert list(found.look("cpu").providers) == ["cpu"]


def test_what_is_found_is_said_without_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(found, "_torch", lambda: ("2.0", False))
    monkeypatch.setattr(found, "_tensorrt", lambda: 1 / 0)
    assert found.look("cpu").parts["tritonserver"] == f"nvidia-pytriton {version('nvidia-pytriton')}"


def test_the_peak_of_memory_is_over_what_was_in_use_before(monkeypatch):
    looks = iter([100, 350, 250])
    result = Measured("it")
    monkeypatch.setattr(timing, "_BETWEEN", 1e9)
    with timing.peak_memory(result, lambda: next(looks)):
        timing_seen = next(looks)
    assert timing_seen == 350 and result.memory == 150  # at the end, where none was seen between


def test_without_a_gpu_no_memory_is_said():
    result = Measured("it")
    with timing.peak_memory(result, lambda: None):
        pass
    assert result.memory is None


@pytest.mark.parametrize("name", ["bert", "classifier bert", "sparse bert", "tokens bert"])
def test_every_form_of_a_network_is_made_and_equal_by_onnx_runtime(name):
    (runner,) = all_of(found.Found("cpu", "a CPU", providers=["cpu"]))
    comparisons = [*equality.compare(networks.get([name]), runner, PATIENCE, int8=True)]
    precisions = ALLOWED if name == "bert" else ALLOWED.keys() - {"int8"}
    assert {(one.layout, one.precision) for one in comparisons} == {*product(("padding-free", "padded"), precisions)}
    assert [one for one in comparisons if not one.is_equal] == []


@pytest.mark.parametrize(("gap", "is_equal"), [(9e-5, True), (2e-4, False), (None, False)])
def test_fp32_may_differ_by_a_ten_thousandth(gap, is_equal):
    assert Comparison("bert", "it", "padded", "fp32", gap).is_equal == is_equal


def test_through_a_server_that_there_is_not_it_says_so(tmp_path, capsys):
    command = ["gpu", "--device", "cpu", "--only", "triton", "--repository", str(tmp_path), "--output", str(tmp_path)]
    assert main(command) == 0
    assert "not measured: Triton, bert: " in capsys.readouterr().out
    assert json.loads((tmp_path / "gpu-cpu.json").read_text())["speed"][0]["points"] == []


def test_what_is_no_file_of_results_is_not_drawn(tmp_path, capsys):
    (tmp_path / "other.json").write_text('{"machine": {}}')
    assert main(["gpu", "--draw", str(tmp_path / "other.json")]) == 1
    assert (
        "other.json: it is not a file that `python -m perf gpu` wrote (KeyError('equality'))" in capsys.readouterr().err
    )
