from pathlib import Path

import pytest
from tokenizers import Tokenizer

from perf.failure import Failure
from perf.texts import cut, load_tokenizer, sentences, take, texts_of_length, token_counts
from tests.support import reference


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(reference.checkpoint() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def test_the_order_is_the_same_every_time_and_not_that_of_the_files() -> None:
    assert sentences() == sentences()
    assert sentences(1) != sentences()
    assert sorted(sentences(1)) == sorted(sentences())


def test_no_text_is_longer_than_the_cut_and_short_ones_are_untouched(tokenizer: Tokenizer) -> None:
    texts = [*sentences()[:300], "word " * 500, "unaffable " * 90, "北京大学的自然语言处理" * 9]
    shortened = cut(texts, tokenizer, 20)
    before, after = token_counts(texts, tokenizer), token_counts(shortened, tokenizer)
    assert max(after) == 20
    assert max(before) > 400
    for text, short, count in zip(texts, shortened, before, strict=True):
        assert short == text if count <= 20 else text.startswith(short) and short


def test_a_cut_keeps_the_first_tokens(tokenizer: Tokenizer) -> None:
    text = "one two three four five"
    assert cut([text], tokenizer, 5) == ["one two three"]


def test_a_cut_that_leaves_no_room_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(Failure, match="max_tokens is 2"):
        cut(["one two three"], tokenizer, 2)


@pytest.mark.parametrize("tokens", [8, 128, 512])
def test_texts_of_a_length_have_it_exactly_and_differ(tokenizer: Tokenizer, tokens: int) -> None:
    texts = texts_of_length(tokenizer, tokens, 40)
    assert set(token_counts(texts, tokenizer)) == {tokens}
    assert len(set(texts)) == 40


def test_take_begins_again() -> None:
    assert take(["a", "b", "c"], 5) == ["a", "b", "c", "a", "b"]


def test_a_family_that_is_not_exported_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"export the family 'minilm'"):
        load_tokenizer(tmp_path, "minilm")
