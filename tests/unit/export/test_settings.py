"""The options of an export for GPUs: what goes together, and what it writes."""

from contextlib import nullcontext
from unittest import mock

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from safetensors.numpy import save_file
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from export import pipeline
from export.__main__ import main
from export.settings import MOST_INSTANCES, Request, device, instances_and_threads
from tests.support.checkpoints.folders import write_bert


@pytest.fixture
def run(tmp_path, capsys):
    """run(*options): exit status, standard output and error of an export of a small checkpoint."""
    write_bert(tmp_path / "checkpoint")

    def run(*options: str):
        status = main([str(tmp_path / "checkpoint"), "--repository", str(tmp_path / "repository"), *options])
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus", "all"], "--gpus needs --backend onnxruntime or tensorrt"),
        (["--precision", "fp16"], "--precision fp16 is for GPUs: give --gpus all"),
        (["--backend", "onnxruntime", "--precision", "fp16"], "--precision fp16 is for GPUs: give --gpus all"),
        (["--backend", "onnxruntime", "--gpus", "0", "--precision", "int8"], "--precision int8 is for CPUs"),
        (["--profiles", "1-32"], "--profiles is for --backend tensorrt"),
        (["--pad-to-multiple-of", "8"], "--pad-to-multiple-of is for --backend tensorrt"),
        (["--backend", "onnxruntime", "--workspace", "8"], "--workspace is for --backend tensorrt"),
        (["--timing-cache", "x"], "--timing-cache is for --backend tensorrt"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, tmp_path, options, message):
    status, _, err = run(*options)
    assert status == 1 and err.count("\n") == 1 and message in err
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus", "0,0"], "'0,0' is neither all nor a list of GPU numbers such as 0,1"),
        (["--gpus", "one"], "'one' is neither all nor a list"),
        (["--profiles", "1-32,40-64"], "'1-32,40-64' is not a list of ranges that follow one another from 1 on"),
        (["--workspace", "0"], "'0' is not a whole number from 1 to 2147483647"),
    ],
)
def test_wrong_usage_exits_with_2(run, capsys, options, message):
    with pytest.raises(SystemExit) as exit_:
        run(*options)
    assert exit_.value.code == 2 and message in capsys.readouterr().err


def test_fp16_for_the_onnxruntime_backend_is_half_as_large_and_on_gpus(run, tmp_path):
    def size() -> int:
        path = tmp_path / "repository/bert_encoder/1/model.onnx"
        return sum(len(tensor.raw_data) for tensor in onnx.load(path).graph.initializer)

    assert run("--backend", "onnxruntime")[0] == 0
    fp32 = size()
    status, out, _ = run("--backend", "onnxruntime", "--gpus", "0,1", "--precision", "fp16")
    assert status == 0 and "running it in ONNX Runtime" in out
    assert 0.5 < size() / fp32 < 0.56
    text = (tmp_path / "repository/bert_encoder/config.pbtxt").read_text()
    (group,) = text_format.Parse(text, ModelConfig()).instance_group
    assert (group.kind, group.count, list(group.gpus)) == (ModelInstanceGroup.KIND_GPU, 2, [0, 1])


@pytest.mark.parametrize(
    ("cores", "options", "found"),
    [
        (1, {}, (1, 1)),
        (4, {}, (4, 1)),
        (96, {}, (MOST_INSTANCES, 96 // MOST_INSTANCES)),
        (6, {"threads": 2}, (3, 2)),
        (2, {"threads": 4}, (1, 4)),
        (6, {"instances": 4}, (4, 1)),
        (4, {"instances": 2, "threads": 3}, (2, 3)),
    ],
)
def test_natively_on_cpus_there_is_an_instance_of_one_thread_for_each_core(cores, options, found):
    request = Request("x", "x", pipeline.Path("x"), backend="onnxruntime", **options)
    with mock.patch("os.sched_getaffinity", return_value=range(cores)):
        assert instances_and_threads(request) == found


def test_an_export_says_how_many_instances_there_are_where_the_cores_here_decide(run, tmp_path):
    status, said, _ = run("--backend", "onnxruntime", "--instances", "3", "--threads", "2")
    assert status == 0 and "bert: 3 instances of 2 threads each; --instances and --threads are for a server" in said
    config = text_format.Parse((tmp_path / "repository/bert_encoder/config.pbtxt").read_text(), ModelConfig())
    assert config.instance_group[0].count == 3
    assert config.parameters["intra_op_thread_count"].string_value == "2"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_natively_on_cpus_the_network_cuts_a_batch_by_itself(run, tmp_path, precision):
    def operators() -> list[str]:
        model = onnx.load(tmp_path / "repository/bert_encoder/1/model.onnx")
        return [node.op_type for node in model.graph.node]

    options = ["--precision", precision, "--least-cosine", "-1"]
    assert run(*options)[0] == 0 and "Loop" not in operators()
    assert run("--backend", "onnxruntime", *options)[0] == 0
    assert operators().count("Loop") == 1 and "LayerNormalization" not in operators()


def test_weights_that_fp16_cannot_hold_are_refused(tmp_path, capsys):
    name = "encoder.layer.1.output.dense.bias"
    weights = write_bert(tmp_path / "checkpoint")
    save_file(weights | {name: weights[name] + np.float32(1e5)}, tmp_path / "checkpoint/model.safetensors")
    options = ["--repository", str(tmp_path / "repository"), "--backend", "onnxruntime", "--gpus", "all"]
    assert main([str(tmp_path / "checkpoint"), *options]) == 0
    assert main([str(tmp_path / "checkpoint"), *options, "--precision", "fp16"]) == 1
    assert f"{name} has values up to 1e+05, and FP16 ends at 65504: export in FP32" in capsys.readouterr().err


@pytest.mark.parametrize(("gpus", "built_on"), [(None, 0), ((), 0), ((2, 5), 2)])
def test_an_engine_is_built_on_the_first_gpu_that_will_run_it(gpus, built_on):
    assert device(Request("x", "x", pipeline.Path("x"), backend="tensorrt", gpus=gpus)) == built_on


def test_the_default_export_says_nothing_of_gpus(tmp_path):
    write_bert(tmp_path / "checkpoint")
    request = Request(str(tmp_path / "checkpoint"), "bert", tmp_path / "repository")
    pipeline.export(request, step=lambda _: nullcontext())
    text = (tmp_path / "repository/bert_encoder/config.pbtxt").read_text()
    (group,) = text_format.Parse(text, ModelConfig()).instance_group
    assert (group.kind, group.count) == (ModelInstanceGroup.KIND_CPU, 1)
