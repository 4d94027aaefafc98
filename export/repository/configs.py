"""The config.pbtxt of each model of a family.

The committed `model_repository/bert*` is the template (see `template`). Its configs are parsed, the fields that the
checkpoint or the command line decides are set, whatever they were, and the result is written. A config that comes out
equal to the template's keeps the template's text, comments included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.errors import ExportError
from export.network.layout import REDUCTIONS
from export.repository import encoder_config
from export.repository.encoder_config import data_type, set_parameters, set_tensors
from export.repository.family import ANSWERING, TEMPLATE_NAME, Family
from export.repository.template import TEMPLATE

IDENTITY = "identity."
"""How the parameters begin that hold the identity of a version (see `identity`); its number follows."""

RANGES = "ranges."
"""How the parameters of a pooling begin that hold the ranges of a version's vectors (see `export.ranges`)."""

OF_A_VERSION = (IDENTITY, RANGES)

FOR_CLIENTS = ("max_seq_len", _PROMPT := "prompt_characters")
"""What ensembles alone say to clients, which the steps do not read there: the latter of the longest prompt."""

# Parameters of the tokenizer and the pooling that do not decide what a vector is.
_NOT_OF_VECTORS = ("family", "pad_to_multiple_of", "similarity")


def configs(
    family: Family,
    template: Path = TEMPLATE,
    identities: Mapping[int, str] | None = None,
    there: Mapping[str, ModelConfig] | None = None,
    ranges: Mapping[int, str] | None = None,
) -> dict[str, str]:
    """The text of each model's config.pbtxt, by model name.

    Args:
        family: What decides them.
        template: The model repository that holds the template.
        identities: Of the versions that stand beside each other, by number.
        there: The configs that are replaced, by model name. Their version_policy is an operator's, and is kept.
        ranges: Of the vectors of those versions, by number.

    Raises:
        ExportError: the template is missing or cannot be parsed.
    """
    texts = {}
    for name, origin in family.models().items():
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
        _EDITS[name.removeprefix(family.name)](config, family)
        for key in [key for key in config.parameters if key.startswith(OF_A_VERSION)]:
            del config.parameters[key]
        _set_versioned(config, IDENTITY, identities)
        if name.endswith("_pooling"):
            _set_versioned(config, RANGES, ranges)
        config.ClearField("version_policy")
        if there and name in there and there[name].HasField("version_policy"):
            config.version_policy.CopyFrom(there[name].version_policy)
        texts[name] = text if config == parsed else text_format.MessageToString(config)
    return texts


def versioned(config: ModelConfig, what: str) -> dict[int, str]:
    """What a config has of each version, by number, in the parameters that begin with one of `OF_A_VERSION`."""
    return {
        int(key.removeprefix(what)): value.string_value
        for key, value in config.parameters.items()
        if key.startswith(what) and key.removeprefix(what).isdecimal()
    }


def ranges_of(identity: str, *configs: ModelConfig) -> str:
    """The ranges that one of these configs of a pooling has of the model of this identity; empty if none has."""
    for config in configs:
        ranges = versioned(config, RANGES)
        for version, found in versioned(config, IDENTITY).items():
            if found == identity and version in ranges:
                return ranges[version]
    return ""


def _set_versioned(config: ModelConfig, what: str, values: Mapping[int, str] | None) -> None:
    set_parameters(config.parameters, **{f"{what}{n}": value for n, value in (values or {}).items() if value})


def step_settings(family: Family) -> dict[str, str]:
    """What the configs of the tokenizer and the pooling say of the vectors that a request gets, by parameter."""
    tokenizer, pooling = ModelConfig(), ModelConfig()
    _tokenizer(tokenizer, family)
    _pooling_settings(pooling, family)
    settings = {**tokenizer.parameters, **pooling.parameters}
    return {name: settings[name].string_value for name in settings if name not in _NOT_OF_VECTORS}


def _ensemble(config: ModelConfig, family: Family, role: str) -> None:
    _for_clients(config, family)
    tokenizer, encoder, pooling = config.ensemble_scheduling.step
    answer, counts = family.answers[role], config.output[1]
    for tensors in (encoder.output_map, pooling.input_map, pooling.output_map):
        tensors.clear()
    for name in answer.reads:
        pooling.input_map[name] = name
        if name not in tokenizer.output_map:
            encoder.output_map[name] = name
    for name in answer.gives:
        pooling.output_map[name] = name
    set_tensors(config.output, answer.gives)
    config.output.append(counts)
    if role == "_multi":
        config.input[0].dims[:] = [1]  # no pairs


def _for_clients(config: ModelConfig, family: Family) -> None:
    """Say what a text costs at most, which a client bounds its requests by, where it looks first."""
    longest = max(map(len, family.prompts.values()), default=0)
    config.parameters.pop(_PROMPT, None)
    set_parameters(
        config.parameters, max_seq_len=str(family.max_seq_len), **({_PROMPT: str(longest)} if longest else {})
    )


def _tokens(config: ModelConfig, family: Family) -> None:
    _for_clients(config, family)
    config.output[0].dims[:] = [-1, family.token_size]


def _tokenizer(config: ModelConfig, family: Family) -> None:
    set_parameters(
        config.parameters,
        family=family.name,
        max_seq_len=str(family.max_seq_len),
        prompts=json.dumps(family.prompts, ensure_ascii=False),
        default_prompt_name=family.default_prompt_name or "",
    )
    for name, value, usual in (
        ("pad_to_multiple_of", str(family.pad_to_multiple_of), "1"),
        ("truncation_side", family.truncation_side, "right"),
        ("split_special_tokens", json.dumps(family.split_special_tokens), "false"),
        ("include_prompt", json.dumps(family.include_prompt), "true"),
        ("lengths", json.dumps(family.multi.lengths if family.multi else {}), "{}"),
        ("expansion", json.dumps(_expansion(family)), "null"),
    ):
        config.parameters.pop(name, None)
        if value != usual:
            set_parameters(config.parameters, **{name: value})


def _expansion(family: Family) -> dict[str, int | bool] | None:
    return asdict(family.multi.expansion) if family.multi and family.multi.expansion else None


def _pooling(config: ModelConfig, family: Family) -> None:
    first, *others = family.answers.values()
    set_tensors(config.input, family.read)
    for tensor in config.input:
        tensor.optional = bool(others)  # since each ensemble gives what its own answer is made of
    warm_up = config.model_warmup[0].inputs
    warm_up.clear()
    for name, dims in first.reads.items():
        warm_up[name].data_type = data_type(name)
        warm_up[name].dims[:] = [max(1, size) for size in dims]
        warm_up[name].zero_data = True
    set_tensors(config.output, {name: dims for answer in (first, *others) for name, dims in answer.gives.items()})
    _pooling_settings(config, family)


def _pooling_settings(config: ModelConfig, family: Family) -> None:
    """What the last step reads for each kind of its answers; of a family of several, sizes have the kind's name."""
    config.parameters.clear()
    if family.is_dense:
        _of_dense(config, family)
    if family.labels:
        labels = json.dumps(family.labels, ensure_ascii=False)
        set_parameters(config.parameters, labels=labels, activation=family.activation)
    if family.splade or family.lexical is not None:
        size = "sparse_dimension" if family.is_dense else "dimension"
        set_parameters(config.parameters, **{size: str(family.vocab_size)})
        if family.splade:
            set_parameters(config.parameters, splade=family.splade)
        else:
            set_parameters(config.parameters, lexical=json.dumps(family.lexical))
        if family.max_active_dims:
            set_parameters(config.parameters, max_active_dims=str(family.max_active_dims))
    if family.multi:
        size = "multi_dimension" if family.is_dense else "dimension"
        set_parameters(config.parameters, **{size: str(family.multi.dimension)}, multi=family.multi.made)
        if not family.is_dense:
            set_parameters(config.parameters, similarity=family.similarity)
        if family.multi.skip_ids:
            set_parameters(
                config.parameters,
                skip_ids=json.dumps(family.multi.skip_ids),
                skip_types=json.dumps(family.multi.skip_types),
            )
        if family.multi.skips_first:
            set_parameters(config.parameters, skips_first="true")


def _of_dense(config: ModelConfig, family: Family) -> None:
    set_parameters(
        config.parameters,
        dimension=str(family.dimension),
        layers=json.dumps(family.layers),
        pooling=family.pooling,
        normalize=json.dumps(family.normalize),
    )
    for name, value, usual in (
        ("reductions", family.reductions, REDUCTIONS),
        ("stages", family.stages, ()),
    ):
        if value != usual:
            set_parameters(config.parameters, **{name: json.dumps(value)})
    if family.similarity != "cosine":
        set_parameters(config.parameters, similarity=family.similarity)


_EDITS: dict[str, Callable[[ModelConfig, Family], None]] = {
    **{role: partial(_ensemble, role=role) for role in ANSWERING},
    "_tokens": _tokens,
    "_tokenizer": _tokenizer,
    "_encoder": encoder_config.edit,
    "_pooling": _pooling,
}
"""What sets the fields of a model's config that the family decides, by role."""
