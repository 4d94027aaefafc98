"""Small checkpoints of late interaction with random weights, in each form that there is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.checkpoints.architectures import VARIANTS, drawn, read, taken
from tests.support.checkpoints.folders import (
    VOCABULARY,
    write_json,
    write_modules,
    write_safetensors,
    write_tokenizer,
)

MODULES = "sentence_transformers.base.modules"
MASK = "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"
DENSE, NORMALIZE = f"{MODULES}.dense.Dense", f"{MODULES}.normalize.Normalize"
PYLATE = "pylate.models.Dense.Dense"
TOKENS = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
DIMENSION = 16
BERT = {**VARIANTS["bert"], "vocab_size": len(VOCABULARY) + 2, "pad_token_id": 0, "architectures": ["BertModel"]}
MARKED = (*VOCABULARY, "[unused0]", "[unused1]")


def dense(columns: int, rows: int = DIMENSION, activation: str = "linear.Identity", **config: Any) -> dict[str, Any]:
    """The config of a Dense; without a bias, unless it says so."""
    path = f"torch.nn.modules.{activation}"
    return {"in_features": columns, "out_features": rows, "activation_function": path, "bias": False, **config}


def write(
    folder: Path,
    settings: Mapping[str, Any] = BERT,
    *modules: tuple[str, Mapping[str, Any]],
    loading: Mapping[str, Any] | None = None,
    own: Mapping[str, Any] | None = None,
    tokenizer: bool = True,
) -> None:
    """Write one as MultiVectorEncoder saves it; by default a Dense, a mask and a Normalize are behind the network."""
    _write_network(folder, settings, tokenizer)
    width = read(settings).hidden_size
    modules = modules or ((DENSE, {**dense(width), **TOKENS}), (MASK, {}), (NORMALIZE, TOKENS))
    write_modules(folder, *modules, settings={"max_seq_length": read(settings).max_positions, **(loading or {})})
    _write_weights(folder, modules)
    write_json(folder / "config_sentence_transformers.json", {"model_type": "MultiVectorEncoder", **(own or {})})


def write_pylate(folder: Path, own: Mapping[str, Any], settings: Mapping[str, Any] = BERT) -> None:
    """Write one as PyLate does, with what `own` says beside the rest."""
    _write_network(folder, settings)
    modules = ((PYLATE, dense(read(settings).hidden_size)),)
    write_modules(folder, *modules, settings={"max_seq_length": 31})
    _write_weights(folder, modules)
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "MaxSim", **own})


def write_stanford(folder: Path, metadata: Mapping[str, Any] | None, settings: Mapping[str, Any] = BERT) -> None:
    """Write one as Stanford's ColBERT does."""
    _write_network(folder, settings)
    encoder = read(settings)
    tensors = {f"bert.{name}": value for name, value in taken(encoder).items()}
    tensors["linear.weight"] = drawn("linear.weight", (DIMENSION, encoder.hidden_size))
    write_safetensors(folder, tensors)
    write_json(folder / "config.json", {**settings, "architectures": ["HF_ColBERT"]})
    if metadata is not None:
        write_json(folder / "artifact.metadata", metadata)


def _write_network(folder: Path, settings: Mapping[str, Any], tokenizer: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", settings)
    write_safetensors(folder, taken(read(settings)))
    if tokenizer:
        write_tokenizer(folder, MARKED)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        write_json(folder / "tokenizer_config.json", {**config, "mask_token": "[MASK]"})


def _write_weights(folder: Path, modules: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    for index, (kind, config) in enumerate(modules, start=1):
        if not kind.endswith("Dense"):
            continue
        shape = rows, columns = config["out_features"], config["in_features"]
        shapes: dict[str, tuple[int, ...]] = {"linear.weight": shape}
        if config.get("bias", True):
            shapes["linear.bias"] = shape[:1]
        if config.get("use_residual") and rows != columns:
            shapes["residual.weight"] = shape
        arrays: dict[str, np.ndarray] = {name: drawn(name, shape) for name, shape in shapes.items()}
        write_safetensors(folder / f"{index}_Dense", arrays)
