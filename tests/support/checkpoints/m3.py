"""Small checkpoints as BGE-M3's with random weights, and what FlagEmbedding makes of states by its two layers."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.checkpoints.architectures import VARIANTS, drawn, read, taken
from tests.support.checkpoints.folders import write_json, write_modules, write_safetensors
from tests.support.places import ROOT
from tests.support.trained_tokenizers import SIZE, unigram, write_trained

FILES = ROOT / "tests/data/bge_m3"
"""Where the two layers are, as PyTorch has written them."""

HIDDEN = 24
SETTINGS = {**VARIANTS["xlm-roberta"], "vocab_size": SIZE, "architectures": ["XLMRobertaModel"]}
LONGEST = 64


def _layer(name: str, rows: int, dtype: type[np.floating[Any]]) -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {"weight": (rows, HIDDEN), "bias": (rows,)}
    values = {key: drawn(f"{name}.{key}", shape) for key, shape in shapes.items()}
    return {key: value.astype(dtype).astype(np.float32) for key, value in values.items()}


COLBERT = _layer("colbert_linear", HIDDEN, np.float16)
SPARSE = _layer("sparse_linear", 1, np.float32)
SPARSE["bias"] += np.float32(0.8)  # so that about half of the tokens weigh something
"""What the files hold."""


def write(
    folder: Path,
    *,
    settings: Mapping[str, Any] = SETTINGS,
    layers: Sequence[str] = ("colbert_linear.pt", "sparse_linear.pt"),
    modules: bool = True,
) -> None:
    """Write one as it is on the hub; without `modules`, as FlagEmbedding leaves one that it has trained."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", settings)
    write_safetensors(folder, taken(read(settings)))
    write_trained(folder, unigram(), of_class="XLMRobertaTokenizer", settings={"model_max_length": LONGEST})
    for name in layers:
        shutil.copy(FILES / name, folder)
    if modules:
        pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": True}
        write_modules(
            folder,
            ("sentence_transformers.models.Pooling", pooling),
            ("sentence_transformers.models.Normalize", None),
            settings={"max_seq_length": LONGEST},
        )


def dense(states: np.ndarray) -> np.ndarray:
    """Of a text's states [T, H]: [H]."""
    return states[0] / np.linalg.norm(states[0])


def lexical(states: np.ndarray, ids: Sequence[int]) -> dict[int, float]:
    """Weights by token id, as FlagEmbedding's `lexical_weights`: `<s>`, `<pad>`, `</s>` and `<unk>` have none."""
    words: defaultdict[int, float] = defaultdict(float)
    weights = np.maximum(states @ SPARSE["weight"][0] + SPARSE["bias"], 0)
    for index, weight in zip(ids, weights.tolist(), strict=True):
        if index not in (0, 1, 2, 3) and weight > words[index]:
            words[index] = weight
    return {index: weight for index, weight in words.items() if weight > 0}


def late(states: np.ndarray) -> np.ndarray:
    """[T - 1, H], as its `colbert_vecs`, which leave the first token out."""
    vectors = states[1:] @ COLBERT["weight"].T + COLBERT["bias"]
    normalised: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalised
