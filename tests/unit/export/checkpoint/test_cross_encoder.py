"""Classifiers and cross-encoders as transformers and versions of sentence-transformers have saved them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export import settings
from export.checkpoint import checkpoint
from export.errors import ExportError
from export.network.architectures.config import Config
from export.settings import Request
from tests.support.checkpoints.architectures import CLASSIFIERS, write_classifier
from tests.support.checkpoints.folders import VOCABULARY, write_json, write_modules, write_tokenizer

IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"
ONE = {"id2label": {"0": "LABEL_0"}}


def write(folder: Path, *, modules: bool = False, own: dict[str, Any] | None = None, **config: Any) -> None:
    base = {**CLASSIFIERS["bert"], "architectures": ["BertForSequenceClassification"], "vocab_size": len(VOCABULARY)}
    write_classifier(folder, {**base, **config}, prefix="bert.")
    write_tokenizer(folder, VOCABULARY)
    if modules:
        write_modules(folder, settings={"transformer_task": "sequence-classification", "module_output_name": "scores"})
    if own is not None:
        write_json(folder / "config_sentence_transformers.json", own)


@pytest.mark.parametrize(
    ("files", "activation"),
    [
        # transformers' pipeline
        ({}, "softmax"),
        (ONE, "sigmoid"),
        ({"problem_type": "multi_label_classification"}, "sigmoid"),
        ({"problem_type": "single_label_classification"}, "softmax"),
        ({"problem_type": "single_label_classification", **ONE}, "sigmoid"),
        ({"problem_type": "regression", **ONE}, "none"),
        # CrossEncoder of version 6, of 4 and 5, and before
        ({"modules": True}, "none"),
        ({"modules": True, **ONE}, "sigmoid"),
        ({"modules": True, "own": {"model_type": "CrossEncoder", "activation_fn": SIGMOID}}, "sigmoid"),
        ({"modules": True, "own": {"activation_fn": IDENTITY}, **ONE}, "none"),
        ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.0.1"}, **ONE}, "none"),
        ({"sentence_transformers": {"version": "4.0.1"}}, "none"),
        ({"sbert_ce_default_activation_function": IDENTITY, **ONE}, "none"),
        ({"sbert_ce_default_activation_function": SIGMOID}, "sigmoid"),
    ],
)
def test_scores_are_made_as_the_checkpoint_says(tmp_path: Path, files: dict[str, Any], activation: str) -> None:
    write(tmp_path, **files)
    source = checkpoint.load(str(tmp_path))
    labels = ("LABEL_0",) if "id2label" in files else ("against", "neutral", "for")
    assert source.head and source.head.labels == labels and source.activation == activation
    family = settings.settled(Request(str(tmp_path), "bert", tmp_path), source)
    assert (family.labels, family.activation, family.outputs) == (labels, activation, {"logits": [len(labels)]})
    assert [*family.models()] == ["bert", "bert_tokenizer", "bert_encoder", "bert_pooling"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"modules": True, "own": {"activation_fn": "torch.nn.Tanh"}}, "activation of its scores is 'torch.nn.Tanh'"),
        ({"sentence_transformers": {"activation_fn": "mine.Own"}}, "activation of its scores is 'mine.Own'"),
        ({"sentence_transformers": 3}, "sentence_transformers is 3; an object is expected"),
        ({"sbert_ce_default_activation_function": 3}, "activation of its scores is 3; export works for torch"),
        ({"problem_type": "ranking"}, "problem_type is 'ranking'; export works for None, regression"),
    ],
)
def test_scores_that_would_be_others_are_refused(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    write(tmp_path, **files)
    with pytest.raises(ExportError, match=message):
        checkpoint.load(str(tmp_path))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"transformer_task": "text-generation"},
            "transformer_task is 'text-generation' .export works for 'sequence-cl",
        ),
        ({"transformer_task": "sequence-classification", "module_output_name": "x"}, "module_output_name"),
    ],
)
def test_another_task_than_scores_is_refused(tmp_path: Path, given: dict[str, str], message: str) -> None:
    write(tmp_path)
    write_modules(tmp_path, settings=given)
    with pytest.raises(ExportError, match=message):
        checkpoint.load(str(tmp_path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_labels": 2**30}, "num_labels is 1073741824; export works for at most 1048576"),
        ({"id2label": {"0": "a", "2": "b"}}, "a name for each of 0, 1, 2 ... is expected"),
        ({"id2label": {"0": "a", "1": "b\ud83d"}}, "id2label is .*; one of them holds half of a surrogate pair"),
    ],
)
def test_labels_that_cannot_be_named_are_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        Config(tmp_path / "config.json", values).labels()


def test_modules_behind_a_classifier_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    write_modules(tmp_path, ("sentence_transformers.models.Normalize", None))
    with pytest.raises(ExportError, match="has Normalize behind a classifier; export works for a Transformer alone"):
        checkpoint.load(str(tmp_path))


def test_weights_of_the_head_stand_beside_the_prefix_or_behind_it(tmp_path: Path) -> None:
    """BERT's pooler is behind it, DeBERTa's is beside it."""
    for name in ("bert", "deberta-v2", "distilbert", "modernbert"):
        found = {**CLASSIFIERS[name], "architectures": ["XForSequenceClassification"], "vocab_size": len(VOCABULARY)}
        write_classifier(tmp_path / name, found)
        write_tokenizer(tmp_path / name, VOCABULARY)
        source = checkpoint.load(str(tmp_path / name))
        assert source.head
        assert all(source.weights.has(f"{layer}.weight") for layer in source.head.names)
    write(tmp_path / "inside")
    assert checkpoint.load(str(tmp_path / "inside")).weights.has("pooler.dense.weight")


@pytest.mark.parametrize(
    ("option", "given"),
    [("--layers", {"layers": (-2,)}), ("--pooling", {"pooling": "cls"}), ("--normalize", {"normalize": True})],
)
def test_what_is_for_vectors_is_refused_of_a_classifier(tmp_path: Path, option: str, given: dict[str, Any]) -> None:
    write(tmp_path)
    source = checkpoint.load(str(tmp_path))
    with pytest.raises(ExportError, match=f"{option} is for dense vectors.* pass --encoder-only"):
        settings.settled(Request(str(tmp_path), "bert", tmp_path, **given), source)


def test_int8_of_a_classifier_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ExportError, match="--precision int8 is measured on dense vectors"):
        settings.settled(Request(str(tmp_path), "bert", tmp_path, precision="int8"), checkpoint.load(str(tmp_path)))


def test_the_encoder_below_is_taken_on_demand(tmp_path: Path) -> None:
    write(tmp_path, modules=True)
    source = checkpoint.load(str(tmp_path), encoder_only=True)
    assert source.head is None and "sequence-classification" in str(source.defaults.unsupported)
