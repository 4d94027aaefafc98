"""A tokenizer that does not do what transformers' does is told from it."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from export.errors import ExportError
from export.tokenizer import check
from tests.support.checkpoints.folders import write_tokenizer
from tests.support.checkpoints.tokenizers import SIZE, left_of, read, reference
from tests.support.trained_tokenizers import byte_level_bpe, framed, unigram


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


@pytest.mark.parametrize("made", [byte_level_bpe, unigram])
@pytest.mark.parametrize("limit", [5, 16, 64, 512])
def test_pairs_are_cut_at_any_limit_and_into_few_parts(made, limit: int) -> None:
    tokenizer = framed(made(), "<s> $A </s>", "<s> $A </s> $B </s>")
    texts, pairs = check.odd_inputs(tokenizer, limit)
    tokenizer.enable_truncation(limit)
    parts = [1 + len(encoding.overflowing) for encoding in tokenizer.encode_batch(pairs)]
    # The library makes each part of one text with each of the other: two of 2,500 tokens at 5 are millions.
    assert 1 < max(parts) <= (3 * limit) ** 2 and sum(parts) < 20_000
    assert all(first.strip() and second.strip() for first, second in pairs)
    assert max(len(encoding.overflowing) for encoding in tokenizer.encode_batch(texts)) > 1
