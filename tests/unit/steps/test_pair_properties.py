"""Whatever the two texts and the limit are: pairs are put together as transformers, or bert-as-service, does it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.support import reference
from tests.support.tokenizer_step import token_rows, tokenizer_file
from tests.support.trained_tokenizers import byte_level_bpe

LONGEST = 24
WORDS = ["the", "fox", "unbelievable", "naïve", "中國", ".", "[MASK]", "xyzzy", "a" * 101]
CHECKS = settings(max_examples=50, deadline=None, derandomize=True)

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=20).map(" ".join)
lower_limits = st.integers(4, LONGEST)  # bert-as-service may drop the second text


@cache
def step(side: str = "right", kind: str = "bert") -> Any:
    with open(f"{reference.checkpoint()}/tokenizer.json", encoding="utf-8") as file:
        text = file.read() if kind == "bert" else byte_level_bpe().to_str()
    settings = {"max_seq_len": str(LONGEST), "prompts": "{}", "default_prompt_name": "", "truncation_side": side}
    return tokenizer_file.TokenizerFile(text, settings)


@cache
def of_transformers(side: str, kind: str) -> PreTrainedTokenizerBase:
    if kind == "bytes":
        return PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe(), truncation_side=side)
    return AutoTokenizer.from_pretrained(reference.checkpoint(), truncation_side=side)


def rows_of(made: Any, values: list[list[str]], **options: Any) -> list[tuple[list[int], list[int]]]:
    """The ids and the types of each row, without padding, as the step makes them."""
    array = np.array([[value.encode() for value in row] for row in values], object)
    job = token_rows.Job(made, options, array, ["input_ids", "token_type_ids", "attention_mask"])
    job.start()
    while not job.is_done:
        if job.pieces or job.go_on(2):
            job.take(made.encode([piece for _, piece in job.pieces], job.split_special_tokens))
    found, _ = token_rows.outputs(job)
    lengths = found["attention_mask"].sum(axis=1)
    return [
        (ids[:length].tolist(), types[:length].tolist())
        for ids, types, length in zip(found["input_ids"], found["token_type_ids"], lengths, strict=True)
    ]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("kind", "least"), [("bert", 5), ("bytes", 12)])
def test_longest_first_is_that_of_transformers(kind: str, least: int, side: str):
    made, theirs = step(side, kind), of_transformers(side, kind)
    limits = st.integers(least, LONGEST)

    @CHECKS
    @given(pairs=st.lists(st.tuples(texts, texts), min_size=1, max_size=4), limit=limits, size=st.integers(8, 200))
    def check(pairs: list[tuple[str, str]], limit: int, size: int) -> None:
        made.cutter.size = size  # bytes of a piece
        expected = theirs(
            [first for first, _ in pairs],
            [second for _, second in pairs],
            truncation="longest_first",
            max_length=limit,
            return_token_type_ids=True,
        )
        found = rows_of(made, [[*pair] for pair in pairs], max_seq_len=limit)
        assert found == [*zip(expected["input_ids"], expected["token_type_ids"], strict=True)]

    check()


def by_bert_as_service(first: list[int], second: list[int], limit: int) -> tuple[list[int], list[int]]:
    """Token by token, from the end of the longer text, and on a tie from that of the second."""
    cls, sep = step().id_of(0, "[CLS]"), step().id_of(0, "[SEP]")
    first, second = [*first], [*second]
    room = limit - (3 if second else 2)
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    ids, types = [cls, *first, sep], [0] * (len(first) + 2)
    if second:
        ids, types = [*ids, *second, sep], [*types, *[1] * (len(second) + 1)]
    return ids, types


tokens = st.lists(st.sampled_from(["the", "fox", "##s", "a", "中", "."]), max_size=LONGEST + 6)


@CHECKS
@given(first=tokens, second=tokens, limit=lower_limits)
def test_tokenized_pairs_are_cut_as_bert_as_service_does_it(first: list[str], second: list[str], limit: int):
    assume(first or second)
    ids = [[step().id_of(0, token) for token in half] for half in (first, second)]
    text = json.dumps([*first, "|||", *second])
    assert rows_of(step(), [[text]], is_tokenized=True, max_seq_len=limit) == [by_bert_as_service(*ids, limit)]


@CHECKS
@given(first=texts, second=texts, limit=lower_limits, size=st.integers(8, 200))
def test_texts_can_be_cut_as_bert_as_service_does_it_too(first: str, second: str, limit: int, size: int):
    made = step()
    made.cutter.size = size
    ids = [encoding.ids for encoding in made.encode([first, second])]
    found = rows_of(made, [[first, second]], pair_truncation="bert_as_service", max_seq_len=limit)
    assert found == [by_bert_as_service(*ids, limit)]
