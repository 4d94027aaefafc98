"""What sentence-transformers does with such files was read off its version 6.2.0."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from export.checkpoint import checkpoint, transformer_settings
from export.checkpoint.transformer_settings import TransformerSettings
from export.errors import ExportError
from tests.support.checkpoints.folders import write_bert, write_json, write_modules, write_safetensors

POOLING = "sentence_transformers.models.Pooling"
DENSE = "sentence_transformers.models.Dense"
NORMALIZE = "sentence_transformers.models.Normalize"


def write(folder: Path, settings: dict[str, Any] | None = None, **options: Any) -> Path:
    write_bert(folder, **options)
    write_modules(folder, (POOLING, {"pooling_mode": "mean"}), settings=settings)
    return folder


def tokens(folder: Path, text: str) -> list[str]:
    found: list[str] = Tokenizer.from_str(checkpoint.load(str(folder)).tokenizer_json).encode(text).tokens
    return found


def test_where_and_how_texts_are_cut_is_applied(tmp_path: Path) -> None:
    cutting = {"truncation_side": "left", "split_special_tokens": True}
    loaded = checkpoint.load(str(write(tmp_path, {"tokenizer_args": cutting})))
    assert (loaded.truncation_side, loaded.split_special_tokens) == ("left", True)


@pytest.mark.parametrize("name", ["tokenizer_args", "processor_kwargs"])
def test_settings_of_the_tokenizer_are_applied(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: {"do_lower_case": True, "local_files_only": False}}, lower_case=False)
    assert tokens(tmp_path, "The FOX") == ["[CLS]", "the", "fox", "[SEP]"]


def test_the_old_name_of_settings_decides(tmp_path: Path) -> None:
    both = {"tokenizer_args": {"do_lower_case": True}, "processor_kwargs": {"do_lower_case": False}}
    write_json(tmp_path / "sentence_bert_config.json", both)
    assert transformer_settings.read(tmp_path).arguments == {"do_lower_case": True}


def of_vectors(folder: Path) -> TransformerSettings:
    """Of a network of which no logits are wanted."""
    return replace(transformer_settings.read(folder), unsupported_logits=None)


def test_the_first_file_that_says_something_is_read(tmp_path: Path) -> None:
    assert of_vectors(tmp_path) == TransformerSettings()
    write_json(tmp_path / "sentence_bert_config.json", {})
    write_json(tmp_path / "sentence_roberta_config.json", {"max_seq_length": 20, "do_lower_case": True})
    write_json(tmp_path / "sentence_xlnet_config.json", {"max_seq_length": 10})
    expected = TransformerSettings(lowercase=True, arguments={"model_max_length": 20})
    assert of_vectors(tmp_path) == expected


def test_settings_without_effect_on_vectors_are_taken(tmp_path: Path) -> None:
    settings = {
        "max_seq_length": 32,
        "model_args": {"torch_dtype": "float16", "attn_implementation": "sdpa", "trust_remote_code": True},
        "config_kwargs": {"use_cache": False, "token": None},
        "processing_kwargs": {},
        "unpad_inputs": False,
        "query_length": None,
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "transformer_task": "feature-extraction",
    }
    loaded = checkpoint.load(str(write(tmp_path, settings)))
    assert (loaded.defaults.max_seq_len, loaded.defaults.unsupported) == (32, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"config_args": {"num_hidden_layers": 2}}, "config_args sets num_hidden_layers.*set it in config.json"),
        ({"config_kwargs": {"num_hidden_layers": 2}}, "sets num_hidden_layers, which export does not apply"),
        ({"model_args": {"variant": "fp16"}}, "model_args sets variant"),
        ({"model_kwargs": {"subfolder": "other"}}, "sets subfolder"),
        ({"processing_kwargs": {"text": {"max_length": 8}}}, "sets processing_kwargs"),
        ({"query_length": 8}, "sets query_length"),
        ({"tokenizer_name_or_path": "another/one"}, "sets tokenizer_name_or_path"),
        ({"of_version_9": 1}, "sets of_version_9"),
        ({"do_lower_case": "no"}, "do_lower_case is 'no'; true or false is expected"),
        ({"tokenizer_args": [1]}, r"tokenizer_args is \[1\]; an object is expected"),
        ({"tokenizer_args": {"vocab_file": "/etc/passwd"}}, "vocab_file is '/etc/passwd'; export reads"),
        ({"processor_kwargs": {"subfolder": "other"}}, "subfolder is 'other'; export reads"),
        ({"modality_config": {"text": 3}}, "modality_config is .*an object of objects"),
    ],
    ids=str,
)
def test_settings_that_would_be_lost_are_refused_by_name(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message) as error:
        checkpoint.load(str(write(tmp_path, settings)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config_sentence_transformers.json", {"truncate_dim": 8}, "truncate_dim is 8, .*truncate_dim in requests"),
        ("config_sentence_transformers.json", {"of_version_9": 8}, "sets of_version_9"),
        ("config_sentence_transformers.json", {"prompts": ["q: "]}, "prompts is .*texts by name is expected"),
        ("config_sentence_transformers.json", {"prompts": {"q": 3}}, "prompts is .*texts by name is expected"),
        ("config_sentence_transformers.json", {"prompts": {"q": "\ud800"}}, "half of a surrogate pair"),
        ("config_sentence_transformers.json", {"default_prompt_name": ["q"]}, r"default_prompt_name is \['q'\]"),
        ("1_Pooling/config.json", {"of_version_9": True}, "sets of_version_9"),
        ("1_Pooling/config.json", {"pooling_mode": 7}, "pools by 7"),
        ("2_Dense/config.json", {"of_version_9": True}, "sets of_version_9"),
        ("2_Dense/config.json", {"in_features": "32"}, "in_features is '32'; a whole number above 0 is expected"),
        ("2_Dense/config.json", {"activation_function": ["x"]}, r"activation_function is \['x'\]"),
        ("3_Normalize/config.json", {"p": 1}, "sets p, "),
    ],
    ids=str,
)
def test_unknown_keys_and_values_of_other_types_are_refused_by_name(
    tmp_path: Path, file: str, change: dict[str, Any], message: str
) -> None:
    write_bert(tmp_path)
    dense = {"in_features": 32, "out_features": 8, "bias": False}
    write_modules(tmp_path, (POOLING, {"pooling_mode": "mean"}), (DENSE, dense), (NORMALIZE, {}))
    write_safetensors(tmp_path / "2_Dense", {"linear.weight": np.ones((8, 32), np.float32)})
    path = tmp_path / file
    known = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, {**known, **change})
    try:
        reason = str(checkpoint.load(str(tmp_path)).defaults.unsupported)
    except ExportError as error:
        reason = str(error)
    assert re.search(f"{re.escape(str(path))}: .*{message}", reason), reason


@pytest.mark.parametrize("length", [float("nan"), float("-inf"), 0, 30.5, [30], {}])
def test_a_longest_text_that_is_no_number_of_tokens_is_refused(tmp_path: Path, length: Any) -> None:
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": length})
    with pytest.raises(ExportError, match="the longest text is given as"):
        transformer_settings.longest_text(tmp_path, TransformerSettings(), 64)


def test_the_longest_text_may_be_without_limit_or_under_its_old_name(tmp_path: Path) -> None:
    for options, longest in (
        ({"model_max_length": float("inf")}, 64),
        ({"model_max_length": 1e30}, 64),
        ({"model_max_length": None, "max_len": 16}, 64),  # as transformers has it
        ({"max_len": 16}, 16),
    ):
        write_json(tmp_path / "tokenizer_config.json", options)
        assert transformer_settings.longest_text(tmp_path, TransformerSettings(), 64) == longest
