"""The configurations that Triton gets for encoders on GPUs, field by field."""

from dataclasses import replace

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from export.network.layout import INPUTS
from export.repository.configs import configs
from export.repository.encoder_config import GRAPH_TEXTS
from export.repository.family import Family
from export.tensorrt.profiles import Profile
from tests.support.checkpoints.families import MINILM

ONNX = replace(MINILM, backend="onnxruntime", instances=2, gpus=())
ENGINE = replace(
    ONNX,
    backend="tensorrt",
    profiles=(Profile(1, 32), Profile(33, 128), Profile(129, 256)),
    pad_to_multiple_of=32,
)


def parsed(family: Family) -> dict[str, ModelConfig]:
    return {name: text_format.Parse(text, ModelConfig()) for name, text in configs(family).items()}


def encoder(family: Family) -> ModelConfig:
    return parsed(family)["bert_encoder"]


@pytest.mark.parametrize("family", [ONNX, ENGINE], ids=["onnxruntime", "tensorrt"])
def test_instances_are_so_many_on_each_gpu(family):
    (group,) = encoder(family).instance_group
    assert (group.kind, group.count, list(group.gpus)) == (ModelInstanceGroup.KIND_GPU, 2, [])  # on all
    (group,) = encoder(replace(family, gpus=(0, 3), instances=1)).instance_group
    assert (group.kind, group.count, list(group.gpus)) == (ModelInstanceGroup.KIND_GPU, 1, [0, 3])


@pytest.mark.parametrize("family", [ONNX, ENGINE], ids=["onnxruntime", "tensorrt"])
def test_only_the_encoder_is_on_gpus_and_only_reduced_vectors_leave_it(family):
    models = parsed(family)
    for role in ("tokenizer", "pooling"):
        assert [group.kind for group in models[f"bert_{role}"].instance_group] == [ModelInstanceGroup.KIND_CPU]
    step = models["bert"].ensemble_scheduling.step[1]
    assert step.model_name == "bert_encoder" and dict(step.output_map) == {
        "pooled": "pooled",
        "pooler_output": "pooler_output",
    }


@pytest.mark.parametrize("family", [ONNX, ENGINE], ids=["onnxruntime", "tensorrt"])
def test_the_queue_has_a_limit_and_a_timeout(family):
    batching = encoder(family).dynamic_batching
    policy = batching.default_queue_policy
    assert policy.max_queue_size == 1024 and policy.default_timeout_microseconds == 30_000_000
    assert policy.allow_timeout_override and not batching.preferred_batch_size


@pytest.mark.parametrize(("tokens", "seconds"), [(256, 30), (512, 30), (1024, 50.48), (8192, 337.2)])
def test_a_queue_of_long_texts_has_a_longer_one(tokens, seconds):
    policy = encoder(replace(ONNX, max_seq_len=tokens)).dynamic_batching.default_queue_policy
    assert policy.default_timeout_microseconds == round(seconds * 1e6)


def test_an_engine_gets_padded_batches():
    config = encoder(ENGINE)
    assert (config.backend, config.platform, config.default_model_filename) == ("tensorrt", "", "")
    assert not config.batch_input and not config.batch_output and not config.parameters
    tensors = {tensor.name: (tensor.allow_ragged_batch, list(tensor.dims)) for tensor in config.input}
    assert tensors == dict.fromkeys(INPUTS, (False, [-1]))
    outputs = {tensor.name: list(tensor.dims) for tensor in config.output}
    assert outputs == {"token_embeddings": [-1, 384], "pooled": [4, 384], "pooler_output": [384]}


def test_every_instance_has_every_profile():
    assert list(encoder(ENGINE).instance_group[0].profile) == ["0", "1", "2"]
    assert not encoder(ONNX).instance_group[0].profile


def test_every_profile_is_warmed_up_with_one_text_and_with_as_many_as_may_come():
    samples = encoder(replace(ENGINE, max_batch_size=16)).model_warmup
    found = set()
    for sample in samples:
        assert set(sample.inputs) == set(INPUTS)
        assert all(tensor.zero_data for tensor in sample.inputs.values())
        (dims,) = {tuple(tensor.dims) for tensor in sample.inputs.values()}
        found.add((sample.batch_size, *dims))
    assert found == {(texts, tokens) for texts in (1, 16) for tokens in (32, 128, 256)}
    assert len({sample.name for sample in samples}) == len(samples) == 6
    assert len(encoder(replace(ENGINE, max_batch_size=1)).model_warmup) == 3


def test_cuda_graphs_are_for_few_texts_of_lengths_that_the_tokenizer_makes():
    cuda = encoder(ENGINE).optimization.cuda
    assert cuda.graphs and not cuda.busy_wait_events
    found = set()
    for spec in cuda.graph_spec:
        assert set(spec.input) == set(INPUTS)
        (dims,) = {tuple(shape.dim) for shape in spec.input.values()}
        assert not spec.HasField("graph_lower_bound")  # a larger graph would read what an earlier run has left
        found.add((spec.batch_size, *dims))
    assert found == {(texts, tokens) for texts in GRAPH_TEXTS for tokens in (32, 64, 96, 128)}
    few = encoder(replace(ENGINE, max_batch_size=2, max_seq_len=40, profiles=(Profile(1, 40),)))
    shapes = {(spec.batch_size, spec.input["input_ids"].dim[0]) for spec in few.optimization.cuda.graph_spec}
    assert shapes == {(1, 32), (2, 32), (1, 40), (2, 40)}
    assert not encoder(ONNX).HasField("optimization")


def test_only_the_tokenizer_of_an_engine_rounds_up():
    tokenizer = parsed(ENGINE)["bert_tokenizer"]
    assert tokenizer.parameters["pad_to_multiple_of"].string_value == "32"
    assert "pad_to_multiple_of" not in parsed(ONNX)["bert_tokenizer"].parameters


@pytest.mark.parametrize(
    ("max_seq_len", "multiple", "lengths"),
    [(256, 64, [64, 128, 192, 256]), (40, 32, [32, 40]), (32, 32, [32]), (25, 32, [25]), (3, 1, [1, 2, 3])],
)
def test_the_lengths_that_a_tokenizer_makes(max_seq_len, multiple, lengths):
    assert replace(ENGINE, max_seq_len=max_seq_len, pad_to_multiple_of=multiple).lengths() == lengths


def test_an_engine_written_over_the_template_can_be_its_template_again(tmp_path):
    for name, text in configs(ENGINE).items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.pbtxt").write_text(text)
    again = {name: text_format.Parse(text, ModelConfig()) for name, text in configs(MINILM, tmp_path).items()}
    assert again == parsed(MINILM)
