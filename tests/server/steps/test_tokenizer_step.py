"""The tokenizer of a family, asked by itself."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from tests.support import reference


def test_ids_and_tokens_equal_transformers(ask, texts):
    tokenizer = AutoTokenizer.from_pretrained(reference.checkpoint())
    some = texts[:64]
    wanted = "input_ids attention_mask token_type_ids pooling_mask TOKENS TOKEN_COUNT"
    found = ask("bert_tokenizer", wanted, some)
    expected = tokenizer(some, truncation=True, max_length=256, padding=True, return_tensors="np")
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        np.testing.assert_array_equal(found[name], expected[name])
    np.testing.assert_array_equal(found["pooling_mask"], expected["attention_mask"])
    for row, length, encoding in zip(
        found["TOKENS"], expected["attention_mask"].sum(1), expected.encodings, strict=True
    ):
        assert [token.decode() for token in row[:length]] == encoding.tokens[:length]
        assert not any(row[length:])
    counts = [len(ids) for ids in tokenizer(some)["input_ids"]]
    assert max(counts) > 256
    assert found["TOKEN_COUNT"].tolist() == [[count] for count in counts]


def test_pairs_equal_transformers(ask):
    tokenizer = AutoTokenizer.from_pretrained(reference.checkpoint())
    pairs = reference.pairs()
    found = ask("bert_tokenizer", "input_ids token_type_ids TOKEN_COUNT", pairs)
    expected = tokenizer(*zip(*pairs, strict=True), truncation=True, max_length=256, padding=True, return_tensors="np")
    np.testing.assert_array_equal(found["input_ids"], expected["input_ids"])
    np.testing.assert_array_equal(found["token_type_ids"], expected["token_type_ids"])
    whole = tokenizer(*zip(*pairs, strict=True))["input_ids"]
    assert found["TOKEN_COUNT"].tolist() == [[len(ids)] for ids in whole]


def test_max_seq_len_holds_for_its_own_request(ask):
    found = ask("bert_tokenizer", "TOKENS TOKEN_COUNT", ["one two three four five six"], max_seq_len=5)
    assert found["TOKENS"][0].tolist() == [b"[CLS]", b"one", b"two", b"three", b"[SEP]"]
    assert found["TOKEN_COUNT"].tolist() == [[8]]
    assert ask("bert_tokenizer", "input_ids", ["one two three four five six"]).shape == (1, 8)


def test_tokenized_input_is_taken_as_it_stands(ask):
    tokens = json.dumps(["hello", "##ing", "[MASK]", "no-such-token"])
    found = ask("bert_tokenizer", "TOKENS token_type_ids TOKEN_COUNT", [tokens], is_tokenized=True)
    assert found["TOKENS"][0].tolist() == [b"[CLS]", b"hello", b"##ing", b"[MASK]", b"[UNK]", b"[SEP]"]
    assert not found["token_type_ids"].any() and found["TOKEN_COUNT"].tolist() == [[6]]


def test_tokenized_pairs_lose_tokens_from_the_longer_side_from_the_second_on_a_tie(ask):
    pair = json.dumps(["a"] * 5 + ["|||"] + ["b"] * 5)
    found = ask("bert_tokenizer", "TOKENS token_type_ids TOKEN_COUNT", [pair], is_tokenized=True, max_seq_len=10)
    assert b"".join(found["TOKENS"][0]) == b"[CLS]aaaa[SEP]bbb[SEP]"
    assert found["token_type_ids"].tolist() == [[0] * 6 + [1] * 4]
    assert found["TOKEN_COUNT"].tolist() == [[13]]


def test_a_tokenized_text_may_go_without_special_tokens_and_a_pair_not(ask):
    texts = [json.dumps(tokens) for tokens in (["one", "[MASK]"], ["a", "|||", "b"], ["a", "|||"], ["a"] * 9)]
    wanted = "TOKENS token_type_ids pooling_mask TOKEN_COUNT"
    options = {"is_tokenized": True, "add_special_tokens": False, "mask_cls_sep": True, "max_seq_len": 6}
    found = ask("bert_tokenizer", wanted, texts, **options)
    rows = [b" ".join(row).split() for row in found["TOKENS"]]
    assert rows == [[b"one", b"[MASK]"], [b"[CLS]", b"a", b"[SEP]", b"b", b"[SEP]"], [b"a"], [b"a"] * 6]
    assert found["token_type_ids"].tolist() == [[0] * 6, [0, 0, 0, 1, 1, 0], [0] * 6, [0] * 6]
    assert found["pooling_mask"].sum(1).tolist() == [2, 2, 1, 6]
    assert found["TOKEN_COUNT"].tolist() == [[2], [5], [1], [9]]


def test_special_tokens_in_a_text_are_split_if_asked_for(ask):
    def tokens(text: Any, **parameters: Any) -> list[str]:
        return b" ".join(ask("bert_tokenizer", "TOKENS", [text], **parameters)[0]).decode().split()

    assert tokens("a [MASK] .") == ["[CLS]", "a", "[MASK]", ".", "[SEP]"]
    split = ["[CLS]", "a", "[", "mask", "]", ".", "[SEP]"]
    assert tokens("a [MASK] .", split_special_tokens=True) == split
    assert tokens("a [MASK] .", split_special_tokens=True, max_seq_len=5) == [*split[:4], "[SEP]"]
    pair = tokens(("a [MASK] .", "b"), split_special_tokens=True, pair_truncation="bert_as_service")
    assert pair == [*split, "b", "[SEP]"]
    assert tokens("a [MASK] .") == ["[CLS]", "a", "[MASK]", ".", "[SEP]"]


@pytest.mark.parametrize("limit", range(5, 14))
@pytest.mark.parametrize("lengths", [(5, 5), (3, 6), (6, 3), (1, 7), (7, 1), (4, 5), (5, 4)])
def test_pairs_are_cut_by_either_rule_as_text_and_as_tokens(ask, limit, lengths):
    first, second = (["one"] * lengths[0], ["two"] * lengths[1])
    text, tokens = (" ".join(first), " ".join(second)), json.dumps([*first, "|||", *second])

    def kept(text: Any, **parameters: Any) -> tuple[int, int]:
        found = ask("bert_tokenizer", "TOKENS TOKEN_COUNT", [text], max_seq_len=limit, **parameters)
        assert found["TOKEN_COUNT"].tolist() == [[sum(lengths) + 3]]
        row = found["TOKENS"][0].tolist()
        return row.count(b"one"), row.count(b"two")

    a, b = lengths  # bert-as-service's rule, in its own words
    while a + b > limit - 3:
        a, b = (a - 1, b) if a > b else (a, b - 1)
    assert kept(text, pair_truncation="bert_as_service") == (a, b)
    assert kept(tokens, is_tokenized=True) == (a, b)
    by_the_library = kept(text)
    assert kept(text, pair_truncation="longest_first") == by_the_library
    assert kept(tokens, is_tokenized=True, pair_truncation="longest_first") == by_the_library


def test_a_pair_cut_by_bert_as_service_keeps_its_first_text_at_four_tokens(ask):
    found = ask("bert_tokenizer", "TOKENS", [("one two", "three")], max_seq_len=4, pair_truncation="bert_as_service")
    assert found[0].tolist() == [b"[CLS]", b"one", b"[SEP]"]
    nothing = ask("bert_tokenizer", "TOKENS", [("one", "\u200b")], pair_truncation="bert_as_service")
    assert nothing[0].tolist() == [b"[CLS]", b"one", b"[SEP]"]


def test_mask_cls_sep_takes_them_out_of_the_pooling_mask(ask):
    found = ask("bert_tokenizer", "pooling_mask attention_mask", [("one two", "three"), ("a", "b")], mask_cls_sep=True)
    assert found["pooling_mask"].tolist() == [[0, 1, 1, 0, 1, 0], [0, 1, 0, 1, 0, 0]]
    assert found["attention_mask"].tolist() == [[1] * 6, [1] * 5 + [0]]


def test_prompts_stand_before_the_text(ask):
    def tokens(**parameters: Any) -> str:
        found = ask("small_tokenizer", "TOKENS", ["fox"], **parameters)
        return b" ".join(found[0]).decode()

    assert tokens() == "[CLS] hello fox [SEP]"  # the default prompt, "passage"
    assert tokens(prompt_name="query").endswith("the quick fox [SEP]")
    assert tokens(prompt="lazy ") == "[CLS] lazy fox [SEP]"
    assert tokens(prompt="") == "[CLS] fox [SEP]"
