"""Folders of sentence-transformers with modules of every kind behind a small BERT, and what they make of a text.

`encode` is the plain float64 form of sentence-transformers' modules, as its version 6.2.0 has them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from tests.support.checkpoints import plain_bert
from tests.support.checkpoints.folders import write_bert, write_json, write_modules, write_safetensors

LONGEST = 40
MODES = ("weightedmean", "cls", "lasttoken", "mean_sqrt_len_tokens", "max", "mean")
MODELS = "sentence_transformers.models"
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "activation.GELU": plain_bert.ACTIVATIONS["gelu"],
    "activation.LeakyReLU": lambda x: np.maximum(x, 0) + 0.01 * np.minimum(x, 0),
    "activation.ReLU": plain_bert.ACTIVATIONS["relu"],
    "activation.SiLU": plain_bert.ACTIVATIONS["silu"],
    "activation.Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "activation.Tanh": np.tanh,
    "linear.Identity": lambda x: x,
}


def _dense(columns: int, rows: int, activation: str, **config: Any) -> tuple[str, dict[str, Any]]:
    path = f"torch.nn.modules.{activation}"
    return "Dense", {"in_features": columns, "out_features": rows, "activation_function": path, **config}


Chain = Sequence[tuple[str, Mapping[str, Any]]]
FOLDERS: dict[str, Chain] = {
    # every pooling, in an order that is nobody's usual one
    "all": [("Pooling", {"embedding_dimension": 32, "pooling_mode": list(MODES)})],
    # the same without the tokens of a prompt
    "prompts": [("Pooling", {"embedding_dimension": 32, "pooling_mode": list(MODES), "include_prompt": False})],
    # each kind of module and activation, and Normalize in every place
    "stages": [
        ("Pooling", {"embedding_dimension": 32, "pooling_mode": "mean_sqrt_len_tokens"}),
        ("Normalize", {}),
        _dense(32, 24, "activation.GELU", bias=False),
        ("LayerNorm", {"dimension": 24}),
        _dense(24, 24, "activation.Sigmoid", use_residual=True),
        ("Dropout", {"dropout": 0.3}),
        _dense(24, 20, "activation.SiLU", use_residual=True, bias=False),
        ("Normalize", {}),
        _dense(20, 10, "activation.ReLU"),
        ("Normalize", {}),
    ],
    "middle": [
        ("Pooling", {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}),
        ("LayerNorm", {"dimension": 64}),
        ("Normalize", {}),
        _dense(64, 16, "activation.LeakyReLU"),
        _dense(16, 8, "linear.Identity"),
        _dense(8, 6, "activation.Tanh"),
    ],
}


PROMPTS = {"query": "find the quick ", "document": "hello: ", "none": "", "long": "the lazy dog " * 20}


def write(folder: Path, name: str) -> None:
    """Write one of FOLDERS, with random weights."""
    chain = FOLDERS[name]
    write_bert(folder, pooler=False)
    write_modules(
        folder, *((f"{MODELS}.{kind}", config) for kind, config in chain), settings={"max_seq_length": LONGEST}
    )
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "dot", "prompts": PROMPTS})
    rng = np.random.default_rng(len(name))
    for index, (kind, config) in enumerate(chain, start=1):
        shapes: dict[str, tuple[int, ...]] = {}
        if kind == "Dense":
            rows, columns = config["out_features"], config["in_features"]
            shapes = {"linear.weight": (rows, columns)} | ({"linear.bias": (rows,)} if config.get("bias", True) else {})
            if config.get("use_residual") and rows != columns:
                shapes["residual.weight"] = (rows, columns)
        elif kind == "LayerNorm":
            shapes = dict.fromkeys(("norm.weight", "norm.bias"), (config["dimension"],))
        if shapes:
            arrays = {name: 0.4 * rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
            write_safetensors(folder / f"{index}_{kind}", arrays)


def encode(folder: Path, texts: Sequence[str], modes: Sequence[str] | None = None, prompt: str = "") -> np.ndarray:
    """The vectors of texts; with `modes`, of these poolings side by side, with no module behind them."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    weights = load_file(folder / "model.safetensors")
    states = [plain_bert.layers(weights, tokenizer.encode(prompt + text).ids, heads=4)[-1] for text in texts]
    modules = json.loads((folder / "modules.json").read_text())[1:]
    config = json.loads((folder / modules[0]["path"] / "config.json").read_text())
    own = ["cls", "max"] if "pooling_mode_cls_token" in config else config["pooling_mode"]
    own = [own] if isinstance(own, str) else own
    start = len(tokenizer.encode(prompt).ids) - 1 if prompt and not config.get("include_prompt", True) else 0
    x = np.stack([np.concatenate([_pooled(state, mode, start) for mode in modes or own]) for state in states])
    for module in modules[1:] if modes is None else ():
        x = _after(folder / module["path"], module["type"].rpartition(".")[2], x)
    return x


def _pooled(state: np.ndarray, mode: str, start: int) -> np.ndarray:
    """Of the tokens from `start` on."""
    state, places = state[start:], np.arange(start + 1, len(state) + 1)
    found: np.ndarray = {
        "cls": lambda: state[0],
        "lasttoken": lambda: state[-1],
        "max": lambda: state.max(0),
        "mean": lambda: state.mean(0),
        "mean_sqrt_len_tokens": lambda: state.sum(0) / math.sqrt(len(state)),
        "weightedmean": lambda: np.average(state, axis=0, weights=places),
    }[mode]()
    return found


def _after(folder: Path, kind: str, x: np.ndarray) -> np.ndarray:
    if kind == "Normalize":
        return x / np.linalg.norm(x, axis=1, keepdims=True)
    if kind == "Dropout":
        return x
    w = {name: array.astype(np.float64) for name, array in load_file(folder / "model.safetensors").items()}
    if kind == "LayerNorm":
        x = x - x.mean(1, keepdims=True)
        return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-5) * w["norm.weight"] + w["norm.bias"]
    config = json.loads((folder / "config.json").read_text())
    activation = ACTIVATIONS[config["activation_function"].removeprefix("torch.nn.modules.")]
    y = activation(x @ w["linear.weight"].T + w.get("linear.bias", 0))
    if not config.get("use_residual"):
        return y
    return y + (x @ w["residual.weight"].T if "residual.weight" in w else x)
