"""What an export decides about a model family, and the config.pbtxt of each of its models.

The committed `model_repository/bert*` is the template. Its configs are parsed, the fields that the checkpoint or the
command line decides are set, whatever they were, and the result is written. A config that comes out equal to the
template's keeps the template's text, comments included.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.model_config_pb2 import ModelConfig

from .errors import ExportError
from .network import INPUTS, REDUCTIONS

TEMPLATE = Path(__file__).resolve().parent.parent / "model_repository"
TEMPLATE_NAME = "bert"
ROLES = ("", "_tokens", "_tokenizer", "_encoder", "_pooling")
BACKENDS = ("python", "onnxruntime")
PRECISIONS = ("fp32", "int8")

LEAST_COSINE = 0.95
"""To FP32, of the vectors of an INT8 network."""

# What may wait for the encoder: texts, where its model.py keeps the queue, else requests; and for how many seconds.
MAX_QUEUED_TEXTS = 4096
MAX_QUEUED_REQUESTS = 1024
QUEUE_TIMEOUT = 30

# Tokens in one run of the network: below, its matrix products lose speed; above, memory grows and nothing is gained.
TOKEN_BUDGET = 1024

_FP32 = model_config_pb2.TYPE_FP32


@dataclass(frozen=True)
class Family:
    """The settings of a model family.

    Attributes:
        name: Of the ensemble; the other models' names begin with it.
        hidden_size: Length of one layer's token vector, H.
        layers: The encoder layers in a token vector, by Python index; its length is D = H * len(layers).
        pooler: Whether the network has `pooler_output`.
        max_seq_len: Longest text in tokens, [CLS] and [SEP] included.
        pooling: Of a request that names none.
        normalize: Whether vectors get length 1 where a request does not say.
        prompts: Texts put before a text, by the name that a request gives.
        default_prompt_name: The prompt of a request that names none; None for no prompt.
        dense_activations: The activation of each Dense layer behind the pooling.
        dense_size: Length of the last Dense layer's vector, or None.
        backend: Of the encoder, one of `BACKENDS`.
        max_batch_size: Texts in a request or an execution.
        instances: Of the encoder.
        threads: Of an encoder instance; 0 for as many as there are cores.
    """

    name: str
    hidden_size: int
    layers: tuple[int, ...]
    pooler: bool
    max_seq_len: int
    pooling: str
    normalize: bool
    prompts: dict[str, str]
    default_prompt_name: str | None = None
    dense_activations: tuple[str, ...] = ()
    dense_size: int | None = None
    backend: str = "python"
    max_batch_size: int = 64
    instances: int = 1
    threads: int = 0

    @property
    def token_size(self) -> int:
        """Length of a token vector, D."""
        return self.hidden_size * len(self.layers)

    def models(self) -> dict[str, str]:
        """The template's model of each role, by the name that it gets in this family."""
        return {self.name + role: TEMPLATE_NAME + role for role in ROLES}


def configs(family: Family, template: Path = TEMPLATE) -> dict[str, str]:
    """The text of each model's config.pbtxt, by model name.

    Raises:
        ExportError: the template is missing or cannot be parsed.
    """
    texts = {}
    for (name, origin), edit in zip(
        family.models().items(), (_ensemble, _tokens, _tokenizer, _encoder, _pooling), strict=True
    ):
        path = template / origin / "config.pbtxt"
        try:
            text = path.read_text()
            parsed = text_format.Parse(text, ModelConfig())
        except (OSError, text_format.ParseError) as error:
            raise ExportError(f"the template {path} cannot be read: {error}") from error
        config = ModelConfig()
        config.CopyFrom(parsed)
        config.name = name
        config.max_batch_size = family.max_batch_size
        for step in config.ensemble_scheduling.step:
            step.model_name = family.name + step.model_name.removeprefix(TEMPLATE_NAME)
        edit(config, family)
        texts[name] = text if config == parsed else text_format.MessageToString(config)
    return texts


def _ensemble(config: ModelConfig, family: Family) -> None:
    _, encoder, pooling = config.ensemble_scheduling.step
    for tensors in (encoder.output_map, pooling.input_map):
        tensors.pop("pooler_output", None)
        if family.pooler:
            tensors["pooler_output"] = "pooler_output"


def _tokens(config: ModelConfig, family: Family) -> None:
    config.output[0].dims[:] = [-1, family.token_size]


def _tokenizer(config: ModelConfig, family: Family) -> None:
    _set(
        config.parameters,
        family=family.name,
        max_seq_len=str(family.max_seq_len),
        prompts=json.dumps(family.prompts, ensure_ascii=False),
        default_prompt_name=family.default_prompt_name or "",
    )


def _encoder(config: ModelConfig, family: Family) -> None:
    config.backend = family.backend
    outputs = {"token_embeddings": [-1, family.token_size], "pooled": [len(REDUCTIONS), family.token_size]}
    if family.pooler:
        outputs["pooler_output"] = [family.hidden_size]
    _set_tensors(config.output, outputs)
    config.instance_group[0].count = family.instances
    config.ClearField("batch_input")
    config.ClearField("batch_output")
    config.parameters.clear()
    config.dynamic_batching.Clear()
    config.dynamic_batching.SetInParent()
    if family.backend == "onnxruntime":
        policy = config.dynamic_batching.default_queue_policy
        policy.default_timeout_microseconds = QUEUE_TIMEOUT * 1_000_000
        policy.allow_timeout_override = True
        policy.max_queue_size = MAX_QUEUED_REQUESTS
        # Triton lays the rows of a merged batch end to end, says how wide each is, and cuts the tokens apart again.
        config.batch_input.add(
            kind=model_config_pb2.BatchInput.BATCH_ITEM_SHAPE,
            source_input=[INPUTS[0]],
            target_name=["row_shape"],
            data_type=_FP32,
        )
        config.batch_output.add(
            kind=model_config_pb2.BatchOutput.BATCH_SCATTER_WITH_INPUT_SHAPE,
            source_input=[INPUTS[0]],
            target_name=["token_embeddings"],
        )
        if family.threads:
            _set(config.parameters, intra_op_thread_count=str(family.threads))
    else:
        _set(
            config.parameters,
            family=family.name,
            threads=str(family.threads),
            token_budget=str(TOKEN_BUDGET),
            max_queue_size=str(MAX_QUEUED_TEXTS),
            queue_timeout=str(QUEUE_TIMEOUT),
        )


def _pooling(config: ModelConfig, family: Family) -> None:
    inputs = {"pooled": [len(REDUCTIONS), family.token_size]}
    if family.pooler:
        inputs["pooler_output"] = [family.hidden_size]
    _set_tensors(config.input, inputs)
    warm_up = config.model_warmup[0].inputs
    warm_up.clear()
    for name, dims in inputs.items():
        warm_up[name].data_type = _FP32
        warm_up[name].dims[:] = dims
        warm_up[name].zero_data = True
    config.parameters.clear()
    _set(
        config.parameters,
        hidden_size=str(family.hidden_size),
        layers=json.dumps(family.layers),
        pooling=family.pooling,
        normalize=json.dumps(family.normalize),
    )
    if family.dense_activations:
        _set(
            config.parameters,
            dense_activations=json.dumps(family.dense_activations),
            dense_size=str(family.dense_size),
        )


def _set_tensors(tensors, dims_of: dict[str, list[int]]) -> None:  # type: ignore[no-untyped-def]
    """Replaces a model's FP32 inputs or outputs."""
    del tensors[:]
    for name, dims in dims_of.items():
        tensors.add(name=name, data_type=_FP32, dims=dims)


def _set(parameters: MutableMapping[str, model_config_pb2.ModelParameter], **values: str) -> None:
    for key, value in values.items():
        parameters[key].string_value = value
