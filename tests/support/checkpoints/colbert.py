"""A checkpoint for late interaction of random weights, as sentence-transformers' MultiVectorEncoder saves one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.checkpoints.folders import write_bert, write_json, write_modules, write_safetensors

DIMENSION = 16
HIDDEN = 32
SKIPPED = (".", ",")
"""Tokens of documents that do not count."""

_TOKENS = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}


def write(folder: Path, *, prefix: str = "the ") -> None:
    """Write it: queries with a prompt, documents without what is skipped, vectors of length 1."""
    write_bert(folder, hidden=HIDDEN, positions=128, pooler=False)
    base, own = "sentence_transformers.base.modules", "sentence_transformers.multi_vector_encoder.modules"
    dense = {"in_features": HIDDEN, "out_features": DIMENSION, "bias": False}
    activation = {"activation_function": "torch.nn.modules.linear.Identity"}
    mask = {"skiplist_words": [*SKIPPED], "skiplist_tasks": ["document"], "keep_only_token_ids": None}
    write_modules(
        folder,
        (f"{base}.dense.Dense", {**dense, **activation, **_TOKENS}),
        (f"{own}.multi_vector_mask.MultiVectorMask", mask),
        (f"{base}.normalize.Normalize", _TOKENS),
        settings={"transformer_task": "feature-extraction"},
    )
    prompts = {"query": prefix, "document": ""}
    write_json(folder / "config_sentence_transformers.json", {"model_type": "MultiVectorEncoder", "prompts": prompts})
    weight = np.random.default_rng(1).standard_normal((DIMENSION, HIDDEN)).astype(np.float32)
    write_safetensors(folder / "1_Dense", {"linear.weight": weight})
