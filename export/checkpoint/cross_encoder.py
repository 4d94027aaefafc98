"""How a classifier or cross-encoder makes scores of its logits, from sentence-transformers' or transformers' files.

sentence-transformers' CrossEncoder writes the class of its activation into config_sentence_transformers.json (6), or
into config.json, under `sentence_transformers` (4 and 5) or `sbert_ce_default_activation_function` (before). A file
without one is a plain transformers checkpoint, whose scores are those of transformers' text-classification pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export import json_files
from export.checkpoint.modules import Module
from export.checkpoint.transformer_settings import read
from export.errors import ExportError
from export.network.architectures.config import Config

_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "none",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.Identity": "none",
    "torch.nn.Sigmoid": "sigmoid",
}
_OF_PROBLEMS = {
    "regression": "none",
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
}
_OWN = "config_sentence_transformers.json"


def activation(root: Path, modules: Sequence[Module], config: Config, labels: int) -> str:
    """Return what makes scores of logits where a request does not say: `none`, `sigmoid` or `softmax`.

    Args:
        root: The checkpoint's folder.
        modules: Of its modules.json; none where there is no such file.
        config: Its config.json.
        labels: How many logits there are.

    Raises:
        ExportError: A file is damaged, has modules that a CrossEncoder has not, or names another activation.
    """
    if modules:
        _check(root, modules)
    own = json_files.read_object(root / _OWN, optional=True)
    within = config.mapping("sentence_transformers")
    for path, value in (
        (root / _OWN, own.get("activation_fn")),
        (config.path, within.get("activation_fn")),
        (config.path, config.get("sbert_ce_default_activation_function")),
    ):
        if value is not None:
            return _named(path, value)
    if modules or within:
        return "sigmoid" if labels == 1 else "none"
    problem = config.only("problem_type", (None, *_OF_PROBLEMS))
    if labels == 1 and problem != "regression":  # whatever the problem: softmax over one label is always 1
        return "sigmoid"
    return _OF_PROBLEMS[problem or "single_label_classification"]


def _check(root: Path, modules: Sequence[Module]) -> None:
    unsupported = read(modules[0].folder).unsupported_scores
    if unsupported:
        raise ExportError(unsupported)
    if len(modules) > 1:
        names = ", ".join(module.kind for module in modules[1:])
        raise ExportError(
            f"{root / 'modules.json'}: has {names} behind a classifier; export works for a Transformer alone"
        )


def _named(path: Path, value: Any) -> str:
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        raise ExportError(
            f"{path}: the activation of its scores is {json_files.shown(value)}; export works for "
            f"{', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[value]
