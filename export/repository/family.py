"""What an export decides about a model family, and the config.pbtxt of each of its models.

The committed `model_repository/bert*` is the template. Its configs are parsed, the fields that the checkpoint or the
command line decides are set, whatever they were, and the result is written. A config that comes out equal to the
template's keeps the template's text, comments included.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.errors import ExportError
from export.network.layout import REDUCTIONS
from export.repository import encoder_config
from export.repository.encoder_config import set_parameters, set_tensors
from export.tensorrt.profiles import Profile

TEMPLATE = Path(__file__).resolve().parents[2] / "model_repository"
TEMPLATE_NAME = "bert"
ROLES = ("", "_tokens", "_tokenizer", "_encoder", "_pooling")
BACKENDS = ("python", "onnxruntime", "tensorrt")
PRECISIONS = ("fp32", "fp16", "int8")

LEAST_COSINE = 0.95
"""To FP32, of the vectors of an INT8 network."""

_FP32 = model_config_pb2.TYPE_FP32

IDENTITY = "identity."
"""How the parameters begin that hold the identity of a version (see `identity`); its number follows."""

# Parameters of the tokenizer that do not decide what a vector is.
_NOT_OF_VECTORS = ("family", "pad_to_multiple_of")


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
        instances: Of the encoder; on GPUs, on each of them.
        threads: Of an encoder instance; 0 for as many as there are cores.
        gpus: That the encoder runs on, by number; none named for all that the server sees; None for the CPU.
        profiles: Of the TensorRT engine, by index.
        pad_to_multiple_of: To what the tokenizer rounds a request's length S up, so that equal shapes share a batch;
            never above max_seq_len.
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
    gpus: tuple[int, ...] | None = None
    profiles: tuple[Profile, ...] = ()
    pad_to_multiple_of: int = 1

    @property
    def token_size(self) -> int:
        """Length of a token vector, D."""
        return self.hidden_size * len(self.layers)

    def lengths(self) -> list[int]:
        """Every S that the tokenizer can make, in tokens."""
        step = self.pad_to_multiple_of
        return [*range(step, self.max_seq_len, step), self.max_seq_len]

    def models(self) -> dict[str, str]:
        """The template's model of each role, by the name that it gets in this family."""
        return {self.name + role: TEMPLATE_NAME + role for role in ROLES}


def configs(
    family: Family,
    template: Path = TEMPLATE,
    identities: Mapping[int, str] | None = None,
    there: Mapping[str, ModelConfig] | None = None,
) -> dict[str, str]:
    """The text of each model's config.pbtxt, by model name.

    Args:
        family: What decides them.
        template: The model repository that holds the template.
        identities: Of the versions that stand beside each other, by number.
        there: The configs that are replaced, by model name. Their version_policy is an operator's, and is kept.

    Raises:
        ExportError: the template is missing or cannot be parsed.
    """
    texts = {}
    for (name, origin), edit in zip(
        family.models().items(), (_ensemble, _tokens, _tokenizer, encoder_config.edit, _pooling), strict=True
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
        for key in [key for key in config.parameters if key.startswith(IDENTITY)]:
            del config.parameters[key]
        set_parameters(
            config.parameters, **{f"{IDENTITY}{n}": value for n, value in (identities or {}).items() if value}
        )
        config.ClearField("version_policy")
        if there and name in there and there[name].HasField("version_policy"):
            config.version_policy.CopyFrom(there[name].version_policy)
        texts[name] = text if config == parsed else text_format.MessageToString(config)
    return texts


def step_settings(family: Family) -> dict[str, str]:
    """What the configs of the tokenizer and the pooling say of the vectors that a request gets, by parameter."""
    tokenizer, pooling = ModelConfig(), ModelConfig()
    _tokenizer(tokenizer, family)
    _pooling_settings(pooling, family)
    settings = {**tokenizer.parameters, **pooling.parameters}
    return {name: settings[name].string_value for name in settings if name not in _NOT_OF_VECTORS}


def _ensemble(config: ModelConfig, family: Family) -> None:
    _, encoder, pooling = config.ensemble_scheduling.step
    for tensors in (encoder.output_map, pooling.input_map):
        tensors.pop("pooler_output", None)
        if family.pooler:
            tensors["pooler_output"] = "pooler_output"


def _tokens(config: ModelConfig, family: Family) -> None:
    config.output[0].dims[:] = [-1, family.token_size]


def _tokenizer(config: ModelConfig, family: Family) -> None:
    set_parameters(
        config.parameters,
        family=family.name,
        max_seq_len=str(family.max_seq_len),
        prompts=json.dumps(family.prompts, ensure_ascii=False),
        default_prompt_name=family.default_prompt_name or "",
    )
    config.parameters.pop("pad_to_multiple_of", None)
    if family.pad_to_multiple_of > 1:
        set_parameters(config.parameters, pad_to_multiple_of=str(family.pad_to_multiple_of))


def _pooling(config: ModelConfig, family: Family) -> None:
    inputs = {"pooled": [len(REDUCTIONS), family.token_size]}
    if family.pooler:
        inputs["pooler_output"] = [family.hidden_size]
    set_tensors(config.input, inputs)
    warm_up = config.model_warmup[0].inputs
    warm_up.clear()
    for name, dims in inputs.items():
        warm_up[name].data_type = _FP32
        warm_up[name].dims[:] = dims
        warm_up[name].zero_data = True
    _pooling_settings(config, family)


def _pooling_settings(config: ModelConfig, family: Family) -> None:
    config.parameters.clear()
    set_parameters(
        config.parameters,
        hidden_size=str(family.hidden_size),
        layers=json.dumps(family.layers),
        pooling=family.pooling,
        normalize=json.dumps(family.normalize),
    )
    if family.dense_activations:
        set_parameters(
            config.parameters,
            dense_activations=json.dumps(family.dense_activations),
            dense_size=str(family.dense_size),
        )
