"""`python -m perf gpu` on a CPU: that it runs everything there is and writes what it says, not how fast it is."""

import json
import subprocess
import sys

import pytest

from perf.__main__ import main

NETWORKS = ["--networks", "bert", "classifier bert"]


def test_networks_are_compared_and_measured_with_all_there_is(tmp_path, capsys):
    shapes = ["--lengths", "8", "--batch-sizes", "1", "2", "--seconds", "0.01"]
    command = ["gpu", "--device", "cpu", "--only", "equality", "speed", *NETWORKS, *shapes, "--output", str(tmp_path)]
    assert main(command) == 0
    results = json.loads((tmp_path / "gpu-cpu.json").read_text())
    assert results["found"]["device"] == "cpu" and {"PyTorch", "ONNX Runtime"} <= results["found"]["parts"].keys()
    compared = [(one["network"], one["runner"], one["layout"], one["precision"]) for one in results["equality"]]
    every = [(layout, precision) for layout in ("padding-free", "padded") for precision in ("fp32", "fp16", "int8")]
    assert compared == [
        *(("bert", "the graph on PyTorch, cpu", *form) for form in every),
        *(("classifier bert", "the graph on PyTorch, cpu", *form) for form in every if form[1] != "int8"),
        *(("bert", "ONNX Runtime, cpu", *form) for form in every),
        *(("classifier bert", "ONNX Runtime, cpu", *form) for form in every if form[1] != "int8"),
        ("bert", "transformers on PyTorch, cpu", "", "fp32"),
    ]
    assert all(one["gap"] < 1e-2 for one in results["equality"])
    assert [one["system"] for one in results["speed"]] == [
        "PyTorch sdpa, fp32",
        "the graph on PyTorch, cpu, fp32",
        "ONNX Runtime, cpu, fp32",
    ]
    for one in results["speed"]:
        assert [(point["length"], point["batch"]) for point in one["points"]] == [(8, 1), (8, 2), (0, 1), (0, 2)]
        assert not one["absent"] and one["memory"] is None
    assert {".png", ".svg"} == {path.suffix for path in tmp_path.glob("gpu-cpu.*g") if path.stat().st_size > 5000}
    (tmp_path / "gpu-cpu.png").unlink()
    assert main(["gpu", "--draw", str(tmp_path / "gpu-cpu.json")]) == 0 and (tmp_path / "gpu-cpu.png").exists()
    assert "gpu-cpu.png" in capsys.readouterr().out.splitlines()[-2]


def test_a_network_that_is_not_equal_fails_and_is_named(tmp_path, capsys, monkeypatch):
    from perf.gpu import networks

    right = networks.recorded.load
    monkeypatch.setattr(networks.recorded, "load", lambda name: {key: a + 1e-3 for key, a in right(name).items()})
    command = ["gpu", "--device", "cpu", "--only", "equality", "--networks", "bert", "--output", str(tmp_path)]
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert "not equal: bert, the graph on PyTorch, cpu, padding-free fp32: 1.0e-03" in printed
    assert "padding-free fp16:" not in printed  # which may be as far away


@pytest.mark.parametrize(
    "absent", [["onnxruntime", "transformers", "tritonclient", "psutil", "matplotlib"]], ids=" ".join
)
def test_pytorch_and_the_graphs_are_enough_for_equality(tmp_path, absent):
    code = f"import sys\nsys.modules.update(dict.fromkeys({absent}))\nfrom perf.__main__ import main\nsys.exit(main())"
    arguments = ["gpu", "--device", "cpu", "--quick", "--only", "equality", "speed", "--networks", "bert"]
    command = [sys.executable, "-c", code, *arguments, "--output", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    results = json.loads((tmp_path / "gpu-cpu.json").read_text())
    assert {(one["runner"], one["precision"]) for one in results["equality"]} == {
        ("the graph on PyTorch, cpu", "fp32"),
        ("the graph on PyTorch, cpu", "fp16"),
    }
    assert "not measured: speed: it needs transformers" in ended.stdout
    assert "note: pictures need matplotlib: pip install matplotlib, and draw it with --draw" in ended.stdout
