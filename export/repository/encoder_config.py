"""The config.pbtxt of a family's encoder, for each of the backends that may run it."""

from __future__ import annotations

from collections.abc import MutableMapping

from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from export.network.layout import INPUTS, OF_TOKENS, shape_of
from export.repository.family import Family

# What may wait for the encoder: texts, where its model.py keeps the queue, else requests; and for how many seconds, if
# the texts have USUAL_TOKENS at most. Of longer ones model.py knows the length; the queue of a native backend waits for
# the longest text that there may be.
MAX_QUEUED_TEXTS = 4096
MAX_QUEUED_REQUESTS = 1024
QUEUE_TIMEOUT = 30
USUAL_TOKENS = 512
SECONDS_PER_TOKEN = 0.04

# Tokens in one run of the network: below, its matrix products lose speed; above, memory grows and nothing is gained.
TOKEN_BUDGET = 384

# A CUDA graph replays a whole run at one launch, which pays where a run is short: few texts, and not long ones. Each
# is for one number of texts and one length.
GRAPH_TEXTS = (1, 2, 4, 8)
GRAPH_TOKENS = 128

# What ONNX Runtime has taken for a run it gives back after it; it would keep all that the largest has ever needed.
_MEMORY = {"memory.enable_memory_arena_shrinkage": "cpu:0"}

_INTEGERS = {"indices", "INDICES", "ATTENTION_MASK", *INPUTS}

_FP32 = model_config_pb2.TYPE_FP32
_INT32 = model_config_pb2.TYPE_INT32


def edit(config: ModelConfig, family: Family) -> None:
    """Set what the family decides, whatever it was."""
    config.backend = family.backend
    set_tensors(config.output, family.outputs)
    _instances(config, family)
    for field in ("batch_input", "batch_output", "model_warmup", "parameters", "optimization", "dynamic_batching"):
        config.ClearField(field)
    config.dynamic_batching.SetInParent()
    for tensor in config.input:
        tensor.allow_ragged_batch = family.backend != "tensorrt"
    {"python": _python, "onnxruntime": _onnxruntime, "tensorrt": _tensorrt}[family.backend](config, family)


def _instances(config: ModelConfig, family: Family) -> None:
    """One group: so many instances on the CPU, or on each GPU (on all that the server sees, where none is named)."""
    config.ClearField("instance_group")
    group = config.instance_group.add(count=family.instances)
    if family.gpus is None:
        group.kind = ModelInstanceGroup.KIND_CPU
    else:
        group.kind = ModelInstanceGroup.KIND_GPU
        group.gpus.extend(family.gpus)


def _python(config: ModelConfig, family: Family) -> None:
    _warm_up_eight_tokens(config)
    set_parameters(
        config.parameters,
        family=family.name,
        threads=str(family.threads),
        token_budget=str(TOKEN_BUDGET),
        max_queue_size=str(MAX_QUEUED_TEXTS),
        queue_timeout=str(QUEUE_TIMEOUT),
    )
    if family.cache_bytes:
        set_parameters(config.parameters, cache_bytes=str(family.cache_bytes))


def _onnxruntime(config: ModelConfig, family: Family) -> None:
    _warm_up_eight_tokens(config)
    _limit_queue(config, family)
    # Triton lays the rows of a merged batch end to end, says how wide each is in each input (it does not compare
    # them), and cuts the tokens apart again.
    for name in INPUTS:
        config.batch_input.add(
            kind=model_config_pb2.BatchInput.BATCH_ITEM_SHAPE,
            source_input=[name],
            target_name=[shape_of(name)],
            data_type=_INT32,
        )
    for name in family.outputs:
        if name in OF_TOKENS:
            config.batch_output.add(
                kind=model_config_pb2.BatchOutput.BATCH_SCATTER_WITH_INPUT_SHAPE,
                source_input=[INPUTS[0]],
                target_name=[name],
            )
    if family.threads:
        set_parameters(config.parameters, intra_op_thread_count=str(family.threads))
    if family.in_slices:
        set_parameters(config.parameters, **_MEMORY)


def _tensorrt(config: ModelConfig, family: Family) -> None:
    """Without preferred batch sizes: nothing is known of a GPU to prefer any, and what waits is merged anyway."""
    _limit_queue(config, family)
    (group,) = config.instance_group
    group.profile.extend(str(index) for index, _ in enumerate(family.profiles))
    # The kernels of a profile are loaded, and memory is taken, at the first run with it; masks of zeros are computed
    # like any other.
    for profile in family.profiles:
        for texts in sorted({1, family.max_batch_size}):
            sample = config.model_warmup.add(name=f"{texts} x {profile.longest} tokens", batch_size=texts)
            for name in INPUTS:
                sample.inputs[name].data_type = _INT32
                sample.inputs[name].dims[:] = [profile.longest]
                sample.inputs[name].zero_data = True
    config.optimization.cuda.graphs = True
    for tokens in family.lengths():
        for texts in GRAPH_TEXTS:
            if tokens <= GRAPH_TOKENS and texts <= family.max_batch_size:
                spec = config.optimization.cuda.graph_spec.add(batch_size=texts)
                for name in INPUTS:
                    spec.input[name].dim[:] = [tokens]


def _limit_queue(config: ModelConfig, family: Family) -> None:
    policy = config.dynamic_batching.default_queue_policy
    seconds = QUEUE_TIMEOUT + SECONDS_PER_TOKEN * max(0, family.max_seq_len - USUAL_TOKENS)
    policy.default_timeout_microseconds = round(1_000_000 * seconds)
    policy.allow_timeout_override = True
    policy.max_queue_size = MAX_QUEUED_REQUESTS


def _warm_up_eight_tokens(config: ModelConfig) -> None:
    sample = config.model_warmup.add(name="eight tokens", batch_size=1)
    for name in INPUTS:
        sample.inputs[name].data_type = _INT32
        sample.inputs[name].dims[:] = [8]
        if name == "token_type_ids":
            sample.inputs[name].zero_data = True
        else:
            sample.inputs[name].input_data_file = "ones"


def set_tensors(tensors, dims_of: dict[str, list[int]]) -> None:  # type: ignore[no-untyped-def]
    """Replace a model's inputs or outputs."""
    del tensors[:]
    for name, dims in dims_of.items():
        tensors.add(name=name, data_type=data_type(name), dims=dims)


def data_type(name: str) -> model_config_pb2.DataType:
    """Of what a network puts out, or a pooling reads or puts out."""
    return _INT32 if name in _INTEGERS else _FP32


def set_parameters(parameters: MutableMapping[str, model_config_pb2.ModelParameter], **values: str) -> None:
    """Set parameters of a model."""
    for key, value in values.items():
        parameters[key].string_value = value
