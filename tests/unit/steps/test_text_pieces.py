"""What the pieces of a text give is what the text gives, for every tokenizer that is cut for."""

from __future__ import annotations

import json
import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers

from tests.support import reference
from tests.support.tokenizer_step import text_pieces
from tests.support.trained_tokenizers import byte_level_bpe, unigram

ODD = [
    *" \t\n\r.,;:!?[]()<>=_-~^`´'\"。、！…\u3000\u00a0\u2028\u0085\x0b\x01\u200b\ufeff\ufffd",
    *"中國\u3400\U00020000\ufa0e々ａ가각\u1100\u1161ΣσςßİıéÅǅ\u0301\u0338\u0344\u037e≠½①😀\U0001f468\u200d",
    *["[MASK]", "[SEP]", "[CLS]", "<x>", "new york", "don't", "word", "Hello", "x" * 120, "\u0301" * 30, "中国", "a.b"],
]
BERT = pre_tokenizers.BertPreTokenizer()


def bert(**options: bool) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(**options)


def tokenizer(normalizer: object = None, pre_tokenizer: object = BERT, added: list[AddedToken] | None = None):
    made = Tokenizer.from_file(f"{reference.checkpoint()}/tokenizer.json")
    made.no_truncation()
    made.no_padding()
    made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizer
    made.add_tokens(added or [])
    return made


def cutter(made: Tokenizer, size: int):
    return text_pieces.Cutter(made, json.loads(made.to_str()), size)


def pieces_of(cut: object, text: str) -> list[str]:
    data, place, pieces = text.encode(), 0, []
    while place < len(data):
        piece, place = cut.cut(data, place)
        pieces.append(piece)
    assert "".join(pieces) == text
    return pieces


def odd_texts(count: int) -> list[str]:
    rng = random.Random(1)
    return ["".join(rng.choices(rng.sample(ODD, 12), k=rng.randint(1, 120))) for _ in range(count)]


ADDED = {
    "none": [],
    "plain": [AddedToken("new york"), AddedToken("<x>"), AddedToken("a.b")],
    "normalized": [AddedToken(token, normalized=True) for token in ("New York", "中国", "Å", "..", "<x>")],
    "of one character": [AddedToken(token, normalized=True) for token in (".", "中", "é", "]")],
    "greedy": [AddedToken("<x>", lstrip=True, rstrip=True), AddedToken("!", rstrip=True, normalized=True)],
    "single words": [AddedToken(token, single_word=True) for token in ("word", "_")],
    "with blanks around": [AddedToken(" word "), AddedToken("Hello ", normalized=True)],
}
NORMALIZERS = {
    "uncased": bert(lowercase=True),
    "cased": bert(lowercase=False),
    "cased without accents": bert(lowercase=False, strip_accents=True),
    "uncased with accents": bert(lowercase=True, strip_accents=False),
    "ideographs in words": bert(handle_chinese_chars=False),
    "dirty": bert(clean_text=False),
    "lower-cased first": normalizers.Sequence([normalizers.Lowercase(), bert()]),
    "decomposed": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    "none": None,
}


@pytest.mark.parametrize("added", ADDED)
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_the_tokens_of_the_pieces_are_those_of_the_text(normalizer, added):
    made = tokenizer(NORMALIZERS[normalizer], added=ADDED[added])
    cut = cutter(made, size=8)
    count = 0
    for text in odd_texts(150):
        pieces = pieces_of(cut, text)
        count += len(pieces)
        for split in (False, True):
            made.encode_special_tokens = split
            found = [i for e in made.encode_batch_fast(pieces, add_special_tokens=False) for i in e.ids]
            assert found == made.encode(text, add_special_tokens=False).ids, pieces
    assert count > 300  # or nothing was tried


anything = st.lists(st.one_of(st.sampled_from(ODD), st.characters(exclude_categories=["Cs"])), min_size=1).map("".join)


@pytest.mark.parametrize("normalizer", ["uncased", "cased", "ideographs in words", "decomposed"])
def test_pieces_of_any_size_of_any_text_at_all_have_its_tokens(normalizer):
    made = tokenizer(NORMALIZERS[normalizer], added=ADDED["plain"])
    cut = cutter(made, size=1)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(text=anything, size=st.integers(1, 40))
    def check(text: str, size: int) -> None:
        cut.size = size
        found = [i for e in made.encode_batch_fast(pieces_of(cut, text), add_special_tokens=False) for i in e.ids]
        assert found == made.encode(text, add_special_tokens=False).ids

    check()


def test_words_apart_by_blanks_alone_are_cut_there_only():
    made = tokenizer(bert(handle_chinese_chars=False), pre_tokenizers.WhitespaceSplit())
    assert pieces_of(cutter(made, 4), "ab.cd 中國 e.f gh.i") == ["ab.cd ", "中國 ", "e.f ", "gh.i"]


@pytest.mark.parametrize(
    "made",
    [
        tokenizer(normalizers.NFC()),  # may compose across
        tokenizer(normalizers.Replace(Regex(r"\s+"), " ")),
        tokenizer(normalizers.Sequence([bert(), normalizers.Strip()])),
        tokenizer(bert(), pre_tokenizers.ByteLevel()),
        tokenizer(bert(), pre_tokenizers.Metaspace()),
        tokenizer(bert(), pre_tokenizers.Sequence([BERT, pre_tokenizers.Digits()])),
        tokenizer(bert(), None),
        unigram(),
        byte_level_bpe(),
        tokenizer(bert(), added=[AddedToken(" word", single_word=True)]),
        tokenizer(bert(), added=[AddedToken("word\u3000", single_word=True, normalized=True)]),
    ],
)
def test_what_is_not_proven_is_not_cut(made):
    assert pieces_of(cutter(made, 4), "some words. and more") == ["some words. and more"]


@pytest.mark.parametrize("unit", [".", "[", "]", "=", "_", "中", "a ", "a.", "…", "'", "\u3000", " ", "\n"])
def test_a_long_text_is_cut_into_short_pieces_wherever_it_has_a_place(unit):
    made = tokenizer(bert())
    pieces = pieces_of(cutter(made, 1000), unit * 20_000)
    assert max(len(piece.encode()) for piece in pieces) <= 1003


def test_a_word_is_never_cut_and_nothing_is_read_far_beyond_what_is_allowed():
    cut = cutter(tokenizer(bert()), 1000)
    data = b"x" * 50_000 + b" y"
    assert cut.cut(data, 0) == ("x" * 50_000 + " y", len(data))
    assert cut.cut(data, 0, 10_000) is None
    assert cut.cut(b"x" * 900, 0, 10) == ("x" * 900, 900)  # a whole text that is short
