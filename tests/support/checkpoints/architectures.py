"""Small encoders of every architecture: settings, and weights that follow from names, with PyTorch and without."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.network import architectures, network
from export.network.architectures import classifiers, masked_lms
from export.network.architectures.config import Config
from export.network.architectures.encoder import (
    Classifier,
    Encoder,
    Head,
    Projection,
    Splade,
    TokenVectors,
    linear,
)
from tests.support.checkpoints.folders import write_json, write_safetensors

_SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "vocab_size": 200,
    "max_position_embeddings": 66,
    "pad_token_id": 1,
}
_DISTILBERT = {
    "dim": 24,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 40,
    "vocab_size": 200,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}
_BOTH = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
_IDS = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
_MODERN = {**_IDS, "local_attention": 10, "num_hidden_layers": 4}
_BIASES = {"attention_bias": True, "mlp_bias": True}

_DIFFERENCES: dict[str, dict[str, Any]] = {
    "bert": {},
    "ernie": {"use_task_id": True},
    "roc_bert": {"concat_input": False},
    "electra": {"embedding_size": 20},
    "electra as wide": {"embedding_size": 24},
    "roberta": {},
    "xlm-roberta": {"type_vocab_size": 1},
    "camembert": {"hidden_act": "gelu_new"},
    "xlm-roberta-xl": {},
    "mpnet": {},
    "albert": {"embedding_size": 16},
    "albert in groups": {"embedding_size": 16, "num_hidden_groups": 2, "num_hidden_layers": 4},
    "deberta": {**_BOTH, "position_biased_input": False, "max_relative_positions": 40},
    "deberta p2c": {"relative_attention": True, "pos_att_type": ["p2c"], "type_vocab_size": 2, "embedding_size": 20},
    "deberta absolute": {},
    "deberta-v2": {
        **_BOTH,
        "position_biased_input": False,
        "position_buckets": 16,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    "deberta-v2 conv": {
        "relative_attention": True,
        "pos_att_type": "c2p",
        "conv_kernel_size": 3,
        "conv_act": "gelu",
        "conv_groups": 2,
    },
    "deberta-v2 absolute": {"type_vocab_size": 2},
    "modernbert": _MODERN,
    "modernbert biases": {**_MODERN, **_BIASES, "norm_bias": True},
    "modernbert long": {**_MODERN, "max_position_embeddings": 1100},
    "nomic_bert": {},
    "nomic_bert long": {"max_position_embeddings": 1100},
    "gte": {},
    "gte without types": {"type_vocab_size": 0},
    "jina_embeddings_v3": {},
    "eurobert": {},
    "eurobert shared": {"num_key_value_heads": 2, "head_dim": 8},
    "eurobert long": {**_BIASES, "num_key_value_heads": 1, "max_position_embeddings": 1100},
}

VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"model_type": name.partition(" ")[0], **_SIZES, **different} for name, different in _DIFFERENCES.items()},
    "distilbert": {"model_type": "distilbert", **_DISTILBERT},
}
"""Settings as config.json has them, by name: the architecture, and in what the variant differs from it."""

LABELS = {"0": "against", "1": "neutral", "2": "for"}

CLASSIFIERS: dict[str, dict[str, Any]] = {
    name: {**settings, "architectures": ["XForSequenceClassification"], "id2label": LABELS}
    for name, settings in {
        **{name: settings for name, settings in VARIANTS.items() if " " not in name},
        "modernbert by mean": {
            **VARIANTS["modernbert biases"],
            "classifier_pooling": "mean",
            "classifier_bias": True,
            "classifier_activation": "relu",
        },
        "eurobert by mean": {**VARIANTS["eurobert"], "classifier_pooling": "mean"},
        "eurobert by first": {**VARIANTS["eurobert"], "classifier_pooling": "bos"},
        "deberta-v2 relu": {**VARIANTS["deberta-v2"], "pooler_hidden_act": "relu"},
    }.items()
}
"""Settings of classifiers, one at least of each architecture."""

MASKED_LMS: dict[str, tuple[dict[str, Any], tuple[str, int]]] = {
    name: ({**settings, "architectures": ["XForMaskedLM"]}, pooling)
    for name, (settings, pooling) in {
        **{name: (settings, ("max", 1)) for name, settings in VARIANTS.items() if " " not in name},
        "bert by sum": (VARIANTS["bert"], ("sum", 1)),
        "bert of two logarithms": (VARIANTS["bert"], ("max", 2)),
        "distilbert by sum, of two": (VARIANTS["distilbert"], ("sum", 2)),
        "bert with a decoder": ({**VARIANTS["bert"], "tie_word_embeddings": False}, ("max", 1)),
        "deberta's own": ({**VARIANTS["deberta"], "legacy": False}, ("max", 1)),
        "modernbert without a bias": ({**VARIANTS["modernbert"], "decoder_bias": False}, ("max", 1)),
        "eurobert tied": ({**VARIANTS["eurobert"], "tie_word_embeddings": True, "mlp_bias": True}, ("max", 1)),
    }.items()
}
"""Settings of masked language models, one at least of each architecture, and how sparse vectors are made."""

TOKEN_VECTORS = [name for name in VARIANTS if " " not in name] + ["modernbert long", "nomic_bert long"]
"""Of which heads of late interaction are tried."""

KINDS = [name for name in VARIANTS if " " not in name] + ["albert in groups", "deberta-v2 conv", "eurobert shared"]
"""Those that differ in what is computed, and not only in how much of it."""


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """FP32 values of a weight, large enough that every part of a network shows in what it computes."""
    values = np.random.default_rng([zlib.crc32(name.encode()), *shape]).standard_normal(shape, np.float32)
    if len(shape) > 1:
        return values * np.float32(0.15)
    return values * np.float32(0.2) + np.float32(name.endswith(".weight"))  # a norm's, around 1


class Drawn:
    """The weights of any encoder, as `export.network.weights.Weights` has them; `taken` are those asked for."""

    def __init__(self) -> None:
        self.taken: dict[str, np.ndarray] = {}

    def has(self, name: str) -> bool:
        return True

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        self.taken[name] = drawn(name, shape)
        return self.taken[name]

    def skipped(self) -> list[str]:
        return []


def read(settings: Mapping[str, Any], path: Path = Path("config.json")) -> Encoder:
    """The encoder of a config.json that holds these settings."""
    values = json.loads(json.dumps(settings))
    return architectures.READERS[values["model_type"]](Config(path, values))


def read_classifier(settings: Mapping[str, Any], path: Path = Path("config.json")) -> Classifier:
    """The head of a config.json that holds these settings."""
    return classifiers.READERS[settings["model_type"]](Config(path, json.loads(json.dumps(settings))))


def read_splade(name: str, path: Path = Path("config.json")) -> Splade:
    """The head of one of `MASKED_LMS`."""
    settings, pooling = MASKED_LMS[name]
    config = Config(path, json.loads(json.dumps(settings)))
    return Splade(masked_lms.READERS[settings["model_type"]](config, read(settings)), *pooling)


def read_token_vectors(name: str) -> TokenVectors:
    """A head of late interaction of one of `TOKEN_VECTORS`; tokens may be silent, but in DeBERTa."""
    hidden = read(VARIANTS[name]).hidden_size
    projections = (
        Projection(linear("1/linear"), hidden, 12, "sigmoid", adds=True, residual=linear("1/residual", bias=False)),
        Projection(linear("2/linear", bias=False), 12, 12, "leaky_relu", adds=True),
    )
    return TokenVectors(projections, silent=not name.startswith("deberta"))


def taken(encoder: Encoder, pooler: bool = False, layers: Sequence[int] = (-1,)) -> dict[str, np.ndarray]:
    """All weights of an encoder, or those up to some layers, by the names of transformers' model."""
    weights = Drawn()
    network.build(encoder, weights, layers, pooler)
    return weights.taken


def write(folder: Path, settings: Mapping[str, Any], pooler: bool = False) -> None:
    """Write config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", settings)
    write_safetensors(folder, taken(read(settings), pooler))


def write_classifier(folder: Path, settings: Mapping[str, Any], prefix: str = "encoder.") -> None:
    """Write config.json and model.safetensors of one of `CLASSIFIERS`, the encoder's weights under a prefix."""
    _write_with_head(folder, settings, read_classifier(settings), prefix)


def write_masked_lm(folder: Path, settings: Mapping[str, Any], prefix: str = "encoder.") -> None:
    """The same of one of `MASKED_LMS`."""
    config = Config(Path("config.json"), json.loads(json.dumps(settings)))
    head = Splade(masked_lms.READERS[settings["model_type"]](config, read(settings)))
    _write_with_head(folder, settings, head, prefix)


def _write_with_head(folder: Path, settings: Mapping[str, Any], head: Head, prefix: str) -> None:
    weights, encoder = Drawn(), read(settings)
    network.build(encoder, weights, head=head)
    inside = {f"{encoder.words}.weight"}
    beside = {name for name in weights.taken if name.rpartition(".")[0] in head.names} - inside
    names = {name: name if name in beside else prefix + name for name in weights.taken}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", settings)
    write_safetensors(folder, {names[name]: value for name, value in weights.taken.items()})
