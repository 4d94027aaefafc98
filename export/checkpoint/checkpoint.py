"""A BERT checkpoint as the export uses it: configuration, tokenizer, weights and encoding defaults."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from export import json_files
from export.checkpoint import google, hub, sentence_transformers
from export.checkpoint.google import GoogleWeights
from export.checkpoint.sentence_transformers import Defaults
from export.checkpoint.weights import SafetensorsWeights, Weights
from export.errors import ExportError
from export.tokenizer import conversion

ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh")
"""The values of `hidden_act` that the network is written for, named as transformers names them."""

_WORKING = (
    "model_type 'bert': BERT, MiniLM, LaBSE, BioBERT, SciBERT, bge-*-en-v1.5, e5-*-v2, gte-small to gte-large, "
    "others; bge-m3, multilingual-e5-base and gte-*-v1.5, say, are of other architectures"
)
_ENCODERS = ("Model", "ForMaskedLM", "ForPreTraining", "ForNextSentencePrediction", "LMHeadModel")
"""How the classes end that are saved for their encoder: alone, or under the heads that it was pre-trained with."""

_OTHER_NETWORKS = (
    ("is_decoder", "attends to the left only"),
    ("is_causal", "attends to the left only"),
    ("add_cross_attention", "attends to another network"),
    ("quantization_config", "has quantized weights"),
    ("pruned_heads", "has lost some of its heads"),
    ("per_layer_config", "has layers of different settings"),
    ("attribute_map", "has its settings under other names"),
)
"""Of the keys that change the network of transformers' BertModel, those that make it another than export writes.

The rest of them are `BertConfig`, `position_embedding_type` and `model_type`. Any other key of a config.json is an
attribute that neither BertModel nor what makes its attention masks (which knows `is_causal`) reads, whoever put it
there: labels, generation, dropout, the history of the file.
"""
_MOST = 2**31  # of any size
_ANCHOR = "embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a BERT network; the defaults are those of a configuration that leaves a key out.

    Attributes:
        hidden_size: Length of a token's vector, H.
        num_hidden_layers: Layers of the encoder.
        num_attention_heads: Heads of each layer; they share H equally.
        intermediate_size: Length of a token's vector inside a feed-forward layer.
        vocab_size: Rows of the word embeddings; every token id is below it.
        max_position_embeddings: Longest text in tokens, [CLS] and [SEP] included.
        type_vocab_size: Rows of the token type embeddings (2 where pairs were trained).
        hidden_act: Activation of the feed-forward layers, one of `ACTIVATIONS`.
        layer_norm_eps: What the norms add to the variance.
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    vocab_size: int = 30522
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, read and checked as far as that goes without its weights.

    Attributes:
        source: The folder or hub id as it was given.
        folder: Where the configuration, the tokenizer and, unless they are elsewhere, the weights are.
        config: The network's sizes.
        tokenizer_json: The text of a tokenizer.json, without truncation or padding.
        weights: The weights, by the names of transformers' BertModel.
        defaults: How texts are encoded when a request does not say.
        truncation_side: Where a text that is too long loses tokens, `right` or `left`.
        split_special_tokens: Whether special tokens that are written in a text are cut up like any word.
        notes: What the user should know, a line each.
    """

    source: str
    folder: Path
    config: BertConfig
    tokenizer_json: str
    weights: Weights
    defaults: Defaults
    truncation_side: str = "right"
    split_special_tokens: bool = False
    notes: tuple[str, ...] = ()


def load(
    source: str, *, google_options: google.Options | None = None, encoder_only: bool = False, progress: bool = True
) -> Checkpoint:
    """Read the checkpoint in a folder, or download it from the Hugging Face hub.

    Code that comes with a checkpoint (`auto_map`, module classes of its own) is never run, nor is a pickle
    opened.

    Args:
        source: A folder in Hugging Face's or Google's original format, or a hub id such as
            `BAAI/bge-small-en-v1.5`. A folder in both is read as Hugging Face's, unless there are
            `google_options`.
        google_options: What the user says about a checkpoint in Google's format; an error for any other.
        encoder_only: Take a classifier's or cross-encoder's encoder, without the head that it was trained for.
        progress: Show a progress bar of the download on standard error.

    Raises:
        ExportError: There is no such checkpoint, or it is damaged or not one that can be exported.
    """
    options = google_options or google.Options()
    folder = Path(source).expanduser()
    if google.is_in(folder, options):
        return _load_google(source, folder, options)
    return _load_hugging_face(source, hub.locate(source, progress=progress), encoder_only)


def _load_google(source: str, folder: Path, options: google.Options) -> Checkpoint:
    config = read_config(options.config(folder), default_model_type="bert")
    vocabulary = folder / google.VOCABULARY
    return Checkpoint(
        source=source,
        folder=folder,
        config=config,
        tokenizer_json=conversion.from_vocabulary(
            vocabulary,
            vocab_size=config.vocab_size,
            max_seq_len=config.max_position_embeddings,
            lowercase=not options.cased,
        ).json,
        weights=GoogleWeights(options.prefix(folder)),
        defaults=Defaults(max_seq_len=config.max_position_embeddings),
        notes=() if options.cased else google.lower_casing_notes(vocabulary),
    )


def _load_hugging_face(source: str, root: Path, encoder_only: bool) -> Checkpoint:
    modules = sentence_transformers.read_modules(root)
    folder = modules[0].folder if modules else root
    if (folder / "adapter_config.json").exists():
        raise ExportError(
            f"{folder}: holds a PEFT adapter (adapter_config.json); merge it into its base model "
            "(merge_and_unload(), then save_pretrained()) and export that"
        )
    config = read_config(folder / "config.json")
    if not encoder_only and not any(module.kind == "Pooling" for module in modules):
        _check_purpose(folder / "config.json")
    defaults = sentence_transformers.read(
        root, modules, hidden_size=config.hidden_size, max_positions=config.max_position_embeddings
    )
    settings = sentence_transformers.loading(modules)
    tokens = conversion.read(
        folder,
        vocab_size=config.vocab_size,
        max_seq_len=defaults.max_seq_len,
        max_positions=config.max_position_embeddings,
        lowercase=settings.lowercase,
        arguments=settings.arguments,
    )
    return Checkpoint(
        source=source,
        folder=folder,
        config=config,
        tokenizer_json=tokens.json,
        weights=SafetensorsWeights(folder, anchor=_ANCHOR),
        defaults=defaults,
        truncation_side=tokens.truncation_side,
        split_special_tokens=tokens.split_special_tokens,
    )


def read_config(path: Path, *, default_model_type: str | None = None) -> BertConfig:
    """Read a config.json or bert_config.json.

    Args:
        path: The file.
        default_model_type: What a file without `model_type` describes; None leaves it to its `architectures`.

    Raises:
        ExportError: It is absent or damaged, or describes a network other than the one that export writes.
    """
    values = json_files.read_object(path)
    _check_architecture(path, {"model_type": default_model_type} | values)
    config = BertConfig(**{field.name: _value(path, values, field.name, field.default) for field in fields(BertConfig)})
    if config.hidden_size % config.num_attention_heads:
        raise ExportError(
            f"{path}: hidden_size {config.hidden_size} cannot be shared equally by "
            f"num_attention_heads {config.num_attention_heads}"
        )
    if config.hidden_act not in ACTIVATIONS:
        raise ExportError(
            f"{path}: hidden_act is {json_files.shown(config.hidden_act)}; export works for {', '.join(ACTIVATIONS)}"
        )
    return config


def _check_architecture(path: Path, values: dict[str, Any]) -> None:
    model_type = values.get("model_type")
    architectures = _architectures(path, values)
    # Configs of 2019 have no model_type, only the class that was saved.
    if model_type is None and architectures and all(name.startswith("Bert") for name in architectures):
        model_type = "bert"
    if model_type != "bert":
        raise ExportError(f"{path}: model_type is {json_files.shown(model_type)}; export works for {_WORKING}")
    positions = values.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise ExportError(
            f"{path}: position_embedding_type is {json_files.shown(positions)}; export works for 'absolute'"
        )
    for key, meaning in _OTHER_NETWORKS:
        if values.get(key):
            shown = json_files.shown(values[key])
            raise ExportError(f"{path}: {key} is {shown}, a network that {meaning}; it cannot be exported")


def _architectures(path: Path, values: dict[str, Any]) -> list[str]:
    architectures = values.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise ExportError(f"{path}: architectures is {json_files.shown(architectures)}; a list of names is expected")
    return architectures


def _check_purpose(path: Path) -> None:
    """Refuse a network whose answer is its head's: vectors of the encoder below it were never trained to be any."""
    for name in _architectures(path, json_files.read_object(path)):
        if not name.endswith(_ENCODERS):
            raise ExportError(
                f"{path}: architectures names {json_files.shown(name)}, a network with a head of its own (a classifier "
                "or cross-encoder, say), which export leaves out; vectors of the encoder below it are another thing "
                "than its answer: pass --encoder-only if you want them"
            )


def _value(path: Path, values: dict[str, Any], key: str, default: Any) -> Any:
    """Return `values[key]` or the default, checked to be of the default's type and, if a number, positive."""
    value = values.get(key, default)
    if isinstance(default, str):
        right, wanted = isinstance(value, str), "text"
    else:
        kinds = (int,) if isinstance(default, int) else (int, float)
        right = isinstance(value, kinds) and not isinstance(value, bool) and 0 < value < _MOST
        wanted = f"a positive {type(default).__name__}"
    if not right:
        raise ExportError(f"{path}: {key} is {json_files.shown(value)}; {wanted} is expected")
    return value
