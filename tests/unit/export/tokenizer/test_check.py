"""A tokenizer that does not do what transformers' does is told from it."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from export.errors import ExportError
from export.tokenizer import check
from tests.support.checkpoints.folders import write_tokenizer
from tests.support.checkpoints.tokenizers import SIZE, left_of, read, reference


def test_texts_cut_on_the_other_side_are_a_difference(tmp_path: Path) -> None:
    ours, theirs = Tokenizer.from_str(left_of(tmp_path).json), reference(tmp_path)
    theirs.model_max_length = 32
    check.compare(tmp_path, ours, theirs, 32, "left")
    with pytest.raises(ExportError, match="from token 0 on"):
        check.compare(tmp_path, ours, theirs, 32)


def test_a_difference_to_transformers_is_shown_with_both_tokenizations(tmp_path: Path) -> None:
    for name, lower_case in (("cased", False), ("uncased", True)):
        write_tokenizer(tmp_path / name, lower_case=lower_case)
    ours = Tokenizer.from_str(read(tmp_path / "cased", vocab_size=SIZE))
    message = r"The quick .* in transformers .*; from token 0 on, .*'T', .* and \['\[CLS\]', 'the', 'quick'"
    with pytest.raises(ExportError, match=message):
        check.compare(tmp_path, ours, reference(tmp_path / "uncased"), 64)


def test_a_difference_in_length_and_in_token_types_is_seen(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    theirs = reference(tmp_path)
    theirs.model_max_length = 32
    ours = Tokenizer.from_str(read(tmp_path, vocab_size=SIZE))
    check.compare(tmp_path, ours, theirs, 32)
    with pytest.raises(ExportError, match="becomes 31 tokens as exported and 32 in transformers"):
        check.compare(tmp_path, ours, theirs, 31)
    theirs.model_input_names = ["input_ids", "attention_mask"]
    with pytest.raises(ExportError, match=r"the token types of \(.* as exported and \[0, 0"):
        check.compare(tmp_path, ours, theirs, 32)
