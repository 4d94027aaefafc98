"""Masked language models for sparse vectors, saved as a SparseEncoder or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from export import settings
from export.checkpoint import checkpoint
from export.errors import ExportError
from export.network.architectures.encoder import Splade
from export.settings import Request
from tests.support.checkpoints.architectures import MASKED_LMS, write_masked_lm
from tests.support.checkpoints.folders import VOCABULARY, write_json, write_modules, write_safetensors, write_tokenizer

SPLADE = "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling"
MLM_TRANSFORMER = "sentence_transformers.sparse_encoder.models.MLMTransformer"
LOADED = {"transformer_task": "fill-mask", "modality_config": {"text": {"method_output_name": "logits"}}}


def write(folder: Path, *, pooling: dict[str, Any] | None = None, own: Any = None, **config: Any) -> None:
    base = {**MASKED_LMS["bert"][0], "architectures": ["BertForMaskedLM"], "vocab_size": len(VOCABULARY)}
    write_masked_lm(folder, {**base, **config}, prefix="bert.")
    write_tokenizer(folder, VOCABULARY)
    if pooling is not None:
        write_modules(folder, (SPLADE, pooling), settings=LOADED)
    if own is not None:
        write_json(folder / "config_sentence_transformers.json", {"model_type": "SparseEncoder", **own})


def splade(folder: Path, **options: Any) -> Splade:
    head = checkpoint.load(str(folder), **options).head
    assert isinstance(head, Splade)
    return head


@pytest.mark.parametrize(
    ("config", "pooling", "logs", "told"),
    [
        ({"pooling_strategy": "max", "activation_function": "relu", "embedding_dimension": None}, "max", 1, "max relu"),
        ({"pooling_strategy": "sum", "word_embedding_dimension": 30522}, "sum", 1, "sum relu"),
        ({"activation_function": "log1p_relu", "chunk_size": 8}, "max", 2, "max log1p_relu"),
    ],
)
def test_vectors_are_made_as_the_checkpoint_says(
    tmp_path: Path, config: Any, pooling: str, logs: int, told: str
) -> None:
    write(tmp_path, pooling=config, own={"max_active_dims": 64, "prompts": {"query": ""}})
    source = checkpoint.load(str(tmp_path))
    assert isinstance(source.head, Splade) and (source.head.pooling, source.head.logs) == (pooling, logs)
    family = settings.settled(Request(str(tmp_path), "own", tmp_path), source)
    assert (family.splade, family.vocab_size, family.max_active_dims) == (told, len(VOCABULARY), 64)
    assert [*family.models()] == ["own_sparse", "own_tokenizer", "own_encoder", "own_pooling"]


@pytest.mark.parametrize("settings", [{"max_seq_length": 16, "do_lower_case": False}, None])
def test_a_sparse_encoder_of_version_5_is_read(tmp_path: Path, settings: Any) -> None:
    write(tmp_path, own={"prompts": {"query": "", "document": ""}, "similarity_fn_name": "dot"})
    usual = {"pooling_strategy": "max", "activation_function": "relu", "word_embedding_dimension": None}
    write_modules(tmp_path, (SPLADE, usual), settings=settings, first=MLM_TRANSFORMER)
    source = checkpoint.load(str(tmp_path))
    assert isinstance(source.head, Splade) and (source.head.pooling, source.head.logs) == ("max", 1)
    assert source.defaults.max_seq_len == (settings or {}).get("max_seq_length", source.encoder.max_positions)


def test_a_masked_language_model_is_one_of_vectors_unless_the_head_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path)
    assert checkpoint.load(str(tmp_path)).head is None
    head = splade(tmp_path, head="splade")
    assert (head.pooling, head.logs) == ("max", 1)


@pytest.mark.parametrize("config", [{"tie_word_embeddings": False}, {"architectures": ["BertForPreTraining"]}])
def test_the_decoder_is_where_the_config_says(tmp_path: Path, config: Any) -> None:
    write(tmp_path, **config)
    weights = checkpoint.load(str(tmp_path), head="splade").weights
    name = splade(tmp_path, head="splade").masked_lm.decoder.weight.name
    assert ("decoder" in name) == ("tie_word_embeddings" in config) and weights.has(name)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_what_is_tied_is_the_files_own_where_that_is_something_else(tmp_path: Path, name: str) -> None:
    """As transformers 5 loads it."""
    decoder, shared = f"cls.predictions.decoder.{name}", {"weight": "bert.embeddings.word_embeddings.weight"}
    write(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    original = weights[shared.get(name, "cls.predictions.bias")]
    for own, chosen in ((original, False), (original + 1, True)):
        write_safetensors(tmp_path, {**weights, decoder: own})
        source = checkpoint.load(str(tmp_path), head="splade")
        assert isinstance(source.head, Splade)
        found = source.head.masked_lm.decoder
        stored = found.weight if name == "weight" else found.bias
        assert stored and (stored.name == decoder) == chosen
        np.testing.assert_array_equal(source.weights.take(stored.name, original.shape), own)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pooling": {"pooling_strategy": "mean"}}, "pooling_strategy is 'mean'; export works for max, sum"),
        ({"pooling": {"activation_function": "gelu"}}, "activation_function is 'gelu'; export works for relu, log1p"),
        ({"pooling": {"top": 3}}, "top"),
        ({"pooling": {}, "own": {"max_active_dims": 0}}, "max_active_dims is 0; a whole number above 0"),
        ({"pooling": {}, "own": {"max_active_dims": "all"}}, "max_active_dims is 'all'"),
        (
            {"pooling": {}, "architectures": ["BertModel"]},
            "architectures is .*'BertModel'.*; sparse vectors are made",
        ),
        ({"pooling": {}, "architectures": ["BertForSequenceClassification"]}, "sparse vectors are made by the head"),
    ],
)
def test_what_would_give_other_vectors_is_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    write(tmp_path, **given)
    with pytest.raises(ExportError, match=message):
        checkpoint.load(str(tmp_path))


@pytest.mark.parametrize("settings", [{"transformer_task": "feature-extraction"}, {"max_seq_length": 16}, None])
def test_another_output_than_logits_is_refused(tmp_path: Path, settings: Any) -> None:
    """Which is what a Transformer gives that does not say."""
    write(tmp_path)
    write_modules(tmp_path, (SPLADE, {}), settings=settings)
    with pytest.raises(ExportError, match="transformer_task is 'feature-extraction' .export works for 'fill-mask'"):
        checkpoint.load(str(tmp_path))


def test_modules_behind_it_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    write_modules(tmp_path, (SPLADE, {}), ("sentence_transformers.models.Normalize", None), settings=LOADED)
    with pytest.raises(ExportError, match="a SpladePooling is expected behind a Transformer alone"):
        checkpoint.load(str(tmp_path))


def test_the_head_of_a_checkpoint_of_dense_vectors_is_not_asked_for(tmp_path: Path) -> None:
    write(tmp_path)
    write_modules(tmp_path, ("sentence_transformers.models.Pooling", {"pooling_mode": "cls"}))
    with pytest.raises(ExportError, match="its modules make dense vectors"):
        checkpoint.load(str(tmp_path), head="splade")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pooling": "cls"}, "--pooling is for dense vectors, and .* gives sparse vectors"),
        ({"layers": (0,)}, "--layers is for dense vectors"),
        ({"precision": "int8"}, "--precision int8 is measured on dense vectors"),
        ({"backend": "tensorrt"}, "--backend tensorrt takes no network whose outputs"),
    ],
)
def test_options_that_have_no_meaning_are_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    write(tmp_path, pooling={})
    with pytest.raises(ExportError, match=message):
        settings.settled(Request(str(tmp_path), "own", tmp_path, **given), checkpoint.load(str(tmp_path)))


def test_a_head_and_the_encoder_alone_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--encoder-only leaves the head out that --head splade asks for"):
        settings.check(Request("x", "own", tmp_path, head="splade", encoder_only=True))
