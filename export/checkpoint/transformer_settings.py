"""What sentence_bert_config.json says: how sentence-transformers loads a network and its tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from export import json_files
from export.errors import ExportError

# Under these names, in this order, sentence-transformers looks for the settings of its Transformer.
_NAMES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# How files are fetched, which says nothing of what is in them. sentence-transformers sets these itself.
_FETCHING = {
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "token",
    "trust_remote_code",
    "use_auth_token",
}
# The keys that are honoured here or have no effect on vectors. sentence-transformers hands every key to a constructor,
# so that one which is not known here is one that a later version gave a meaning: it is refused by name.
_KEYS = {
    "backend",
    "do_lower_case",
    "max_seq_length",
    "modality_config",
    "module_output_name",
    "transformer_task",
    "unpad_inputs",
    *(f"{part}_{kind}" for part in ("config", "model", "processor", "tokenizer") for kind in ("args", "kwargs")),
}
LATE_INTERACTION = ("query_length", "document_length", "query_expansion")
"""Keys of those that give a vector for each token."""

_CONFIG_ARGUMENTS = _FETCHING | {"attn_implementation", "output_attentions", "output_hidden_states", "use_cache"}
_MODEL_ARGUMENTS = _CONFIG_ARGUMENTS | {
    "add_pooling_layer",
    "device_map",
    "dtype",
    "ignore_mismatched_sizes",
    "low_cpu_mem_usage",
    "torch_dtype",
    "use_safetensors",
}
# The task, what its output is called, and the network's method and output: of a SentenceTransformer, a SparseEncoder
# and a CrossEncoder.
_VECTORS = ("feature-extraction", "token_embeddings", "forward", "last_hidden_state")
_LOGITS = ("fill-mask", "token_embeddings", "forward", "logits")
_SCORES = ("sequence-classification", "scores", "forward", "logits")


@dataclass(frozen=True)
class TransformerSettings:
    """How sentence-transformers loads a checkpoint; the defaults are those of a folder of no modules.

    Attributes:
        lowercase: Whether it lower-cases texts before the tokenizer sees them.
        arguments: What it hands to AutoTokenizer beside the folder.
        unsupported: What it has the network put out, if not the vectors of its tokens, and else None.
        unsupported_scores: The same, if not the scores of a classifier.
        unsupported_logits: The same, if not the logits of a masked language model.
        late_interaction: What the file holds of `LATE_INTERACTION`.
    """

    lowercase: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    unsupported: str | None = None
    unsupported_scores: str | None = None
    unsupported_logits: str | None = None
    late_interaction: Mapping[str, Any] = field(default_factory=dict)


def read(folder: Path, task: str = "feature-extraction", *, late_interaction: bool = False) -> TransformerSettings:
    """Read the settings in the folder of a Transformer.

    Args:
        folder: Of the module.
        task: Of its network, where there is no such file or it does not say.
        late_interaction: Whether it may have the keys of `LATE_INTERACTION`.

    Raises:
        ExportError: The file is damaged, or sets something that would be lost.
    """
    for path in (folder / name for name in _NAMES):
        settings = json_files.read_object(path, optional=True)
        if settings:
            break
    else:
        path, settings = folder / _NAMES[0], {}
    given = {key: value for key, value in settings.items() if value not in (None, {})}
    json_files.check_keys(path, given, {*_KEYS, *LATE_INTERACTION} if late_interaction else _KEYS)
    for names, known, advice in (
        (("config_args", "config_kwargs"), _CONFIG_ARGUMENTS, "set it in config.json, and remove it there"),
        (("model_args", "model_kwargs"), _MODEL_ARGUMENTS, "save the network as it is with it, and remove it there"),
    ):
        json_files.check_keys(path, _arguments(path, settings, *names), known, f"{names[0]} ", advice)
    lowercase = given.get("do_lower_case", False)
    if not isinstance(lowercase, bool):
        raise ExportError(f"{path}: do_lower_case is {json_files.shown(lowercase)}; true or false is expected")
    arguments = _arguments(path, settings, "tokenizer_args", "processor_kwargs")
    if "max_seq_length" in given:
        arguments = {"model_max_length": given["max_seq_length"]} | arguments
    return TransformerSettings(
        lowercase=lowercase,
        arguments={name: value for name, value in arguments.items() if name not in _FETCHING},
        unsupported=_unsupported(path, {"transformer_task": task} | given, _VECTORS),
        unsupported_scores=_unsupported(path, given, _SCORES),
        unsupported_logits=_unsupported(path, {"transformer_task": task} | given, _LOGITS),
        late_interaction={key: settings[key] for key in LATE_INTERACTION if key in settings},
    )


def longest_text(folder: Path, settings: TransformerSettings, max_positions: int) -> int:
    """Return the tokens, special ones included, after which sentence-transformers cuts a text.

    That is `max_seq_length` where it is set, else the tokenizer's `model_max_length`, at most `max_positions`.
    sentence-transformers does not hold a set `max_seq_length` to `max_positions` and then fails on the first text that
    is longer; here it is lowered to it, so that such texts are cut and every other one gets the same vector.

    Raises:
        ExportError: It is no number of tokens.
    """
    tokenizer = json_files.read_object(folder / "tokenizer_config.json", optional=True)
    # `max_len` is its name of 2019.
    length = settings.arguments.get("model_max_length", tokenizer.get("model_max_length", tokenizer.get("max_len")))
    if length is None:
        return max_positions
    # A tokenizer without a limit is saved with 1e30, in some files as a float. NaN is not at least 1 either.
    is_number = isinstance(length, int | float) and not isinstance(length, bool)
    if not is_number or not length >= 1 or (length != inf and length % 1):
        raise ExportError(
            f"{folder}: the longest text is given as {json_files.shown(length)} tokens (max_seq_length in "
            "sentence_bert_config.json or model_max_length in tokenizer_config.json); a positive "
            "whole number is expected"
        )
    return int(min(length, max_positions))


def _arguments(path: Path, settings: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return arguments that the settings hold under an old name, which decides where there are both, or a new one."""
    name = old if old in settings else new
    value = settings.get(name) or {}
    if not isinstance(value, dict):
        raise ExportError(f"{path}: {name} is {json_files.shown(value)}; an object is expected")
    return value


def _unsupported(path: Path, settings: Mapping[str, Any], usual: tuple[str, str, str, str]) -> str | None:
    modalities = settings.get("modality_config", {})
    text = modalities.get("text", {}) if isinstance(modalities, dict) else None
    if not isinstance(text, dict):
        raise ExportError(
            f"{path}: modality_config is {json_files.shown(modalities)}; an object of objects is expected"
        )
    found = (
        ("transformer_task", settings.get("transformer_task")),
        ("module_output_name", settings.get("module_output_name")),
        ("method", text.get("method")),
        ("method_output_name", text.get("method_output_name")),
    )
    for (key, value), working in zip(found, usual, strict=True):
        if value not in (None, working):
            return f"{path}: {key} is {json_files.shown(value)} (export works for {working!r})"
    return None
