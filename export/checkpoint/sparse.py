"""How a masked language model makes sparse vectors, from the files of sentence-transformers' SparseEncoder.

Transformer (fill-mask), or MLMTransformer  ->  SpladePooling (1_SpladePooling)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from export import json_files
from export.checkpoint.modules import TASKS, Module
from export.checkpoint.transformer_settings import read as read_settings
from export.errors import ExportError
from export.network.architectures.encoder import Encoder, Linear, MaskedLM, Splade, Stored
from export.network.weights import Weights

NAME = "splade"
"""What `--head` calls it."""

_MODULE = "SpladePooling"
_LOGS = {"relu": 1, "log1p_relu": 2}
_POOLINGS = ("max", "sum")
_KEYS = {"pooling_strategy", "activation_function", "embedding_dimension", "word_embedding_dimension", "chunk_size"}


def is_one(modules: Sequence[Module]) -> bool:
    """Whether the modules are those of a SparseEncoder that export works for."""
    return [module.kind for module in modules[1:]] == [_MODULE]


def read(root: Path, modules: Sequence[Module], masked_lm: MaskedLM) -> tuple[Splade, int | None]:
    """Return how logits become a vector, and how many words of it are kept (None: all).

    Args:
        root: The checkpoint's folder.
        modules: Of its modules.json; where there is no SpladePooling, its defaults hold.
        masked_lm: What makes the logits.

    Raises:
        ExportError: A file is damaged, or asks for what export does not write.
    """
    if not is_one(modules):
        if any(module.kind == "Pooling" for module in modules):
            raise ExportError(f"{root}: its modules make dense vectors; --head {NAME} is for a masked language model")
        return Splade(masked_lm), None
    unsupported = read_settings(modules[0].folder, TASKS[modules[0].kind]).unsupported_logits
    if unsupported:
        raise ExportError(unsupported)
    path = modules[1].folder / "config.json"
    config = json_files.read_object(path)
    json_files.check_keys(path, config, _KEYS)
    pooling = _choice(path, config, "pooling_strategy", _POOLINGS)
    logs = _LOGS[_choice(path, config, "activation_function", tuple(_LOGS))]
    own = root / "config_sentence_transformers.json"
    most = json_files.read_object(own, optional=True).get("max_active_dims")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise ExportError(f"{own}: max_active_dims is {json_files.shown(most)}; a whole number above 0 is expected")
    return Splade(masked_lm, pooling, logs), most


def as_stored(masked_lm: MaskedLM, weights: Weights, encoder: Encoder) -> MaskedLM:
    """Return a head whose decoder has weights of its own where a file has such, and others than those it would share.

    So transformers loads them, whatever the config says.
    """

    def chosen(shared: Stored, own: Stored, shape: tuple[int, ...]) -> Stored:
        if not weights.has(own.name) or np.array_equal(weights.take(own.name, shape), weights.take(shared.name, shape)):
            return shared
        return own

    decoder, untied = masked_lm.decoder, masked_lm.untied
    if not untied:
        return masked_lm
    rows, size = encoder.vocab_size, encoder.embedding_size or encoder.hidden_size
    bias = decoder.bias
    if bias and untied.bias:
        bias = chosen(bias, untied.bias, (rows,))
    return replace(masked_lm, decoder=Linear(chosen(decoder.weight, untied.weight, (rows, size)), bias))


def _choice(path: Path, config: dict[str, Any], key: str, working: tuple[str, ...]) -> str:
    value = config.get(key, working[0])
    if not isinstance(value, str) or value not in working:
        raise ExportError(f"{path}: {key} is {json_files.shown(value)}; export works for {', '.join(working)}")
    return value
