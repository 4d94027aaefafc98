"""Rows put together from pieces are what the tokenizer itself makes of the whole texts."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.support import reference
from tests.support.tokenizer_step import request_parameters, token_rows, tokenizer_file
from tests.support.trained_tokenizers import byte_level_bpe, framed, unigram

Refused = request_parameters.Refused
ALL = ["input_ids", "attention_mask", "token_type_ids", "pooling_mask", "TOKENS", "TOKEN_COUNT", "DECODED_TEXT"]


@cache
def text_of_tokenizer() -> str:
    with open(f"{reference.checkpoint()}/tokenizer.json", encoding="utf-8") as file:
        return file.read()


def load(text: str | None = None, **settings: Any):
    defaults = {"max_seq_len": "32", "prompts": '{"query": "find "}', "default_prompt_name": ""}
    return tokenizer_file.TokenizerFile(text or text_of_tokenizer(), {**defaults, **settings})


@pytest.fixture(scope="module")
def made():
    return load()


def job_of(made: Any, texts: list[Any], wanted: list[str] = ALL, **options: Any):
    rows = [text if isinstance(text, tuple) else (text,) for text in texts]
    array = np.array([[t if isinstance(t, bytes) else t.encode() for t in row] for row in rows], object)
    return token_rows.Job(made, options, array, wanted)


def finish(made: Any, job: Any, most: int = 3) -> tuple[dict[str, np.ndarray], int]:
    """As the step does it; also how many pieces it took."""
    job.start()
    count = 0
    while not job.is_done:
        if job.pieces or job.go_on(most):
            count += len(job.pieces)
            job.take(made.encode([piece for _, piece in job.pieces], job.split_special_tokens))
    return token_rows.outputs(job)[0], count


def run(made: Any, texts: list[Any], wanted: list[str] = ALL, **options: Any) -> dict[str, np.ndarray]:
    return finish(made, job_of(made, texts, wanted, **options))[0]


FOX = "the quick brown fox jumps over the lazy dog"


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("limit", [32, 6])
def test_ids_of_a_text_are_the_text(side, limit):
    made = load(truncation_side=side)
    ids = json.dumps(library_tokenizer(text_of_tokenizer()).encode(FOX).ids)
    options = {"max_seq_len": limit, "mask_cls_sep": True, "pair_truncation": "longest_first"}
    found, expected = run(made, [ids], is_tokenized=True, **options), run(made, [FOX], **options)
    assert all((found[name] == expected[name]).all() for name in ALL)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("text", [FOX, (FOX, "a lazy dog sleeps all day long"), ("no", FOX)])
def test_a_request_may_say_where_its_texts_are_cut(made, side, text):
    options = {"max_seq_len": 8}
    expected = run(load(truncation_side=side), [text], **options)
    found = run(made, [text], truncation_side=side, **options)
    assert all((found[name] == expected[name]).all() for name in ALL)
    assert (
        run(load(truncation_side="left"), [text], truncation_side=side, **options)["TOKENS"] == found["TOKENS"]
    ).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation_side": "up"}, "parameter truncation_side is 'up'; it takes right or left"),
        (
            {"truncation_side": "left", "pair_truncation": "bert_as_service"},
            "parameter truncation_side left is not for pair_truncation bert_as_service",
        ),
    ],
)
def test_a_side_that_is_none_is_refused(made, options, message):
    with pytest.raises(Refused, match=message):
        run(made, [FOX], **options)


def test_tokenized_texts_keep_their_last_tokens_where_they_are_to(made):
    found = run(made, ['["a", "b", "c", "d"]'], is_tokenized=True, truncation_side="left", max_seq_len=4)
    assert found["TOKENS"].tolist() == [[b"[CLS]", b"c", b"d", b"[SEP]"]]


def test_ids_are_taken_as_they_stand_where_no_special_tokens_are_added(made):
    found = run(made, ["[7592, 102, 0]", "[1]"], is_tokenized=True, add_special_tokens=False)
    assert found["input_ids"].tolist() == [[7592, 102, 0], [1, 0, 0]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]] and not found["token_type_ids"].any()


@pytest.mark.parametrize("skip", [True, False])
def test_what_is_read_is_read_back_without_padding_by_the_tokenizers_own_decoder(made, skip):
    library, options = library_tokenizer(text_of_tokenizer()), {"skip_special_tokens": skip}
    rows = [library.encode(text).ids for text in (FOX, "Don't, unaffable [MASK] 中文", "a")]
    given = [json.dumps(ids) for ids in [*rows, [101], [4419, 102, 0]]]
    found = run(made, given, ["DECODED_TEXT"], is_tokenized=True, add_special_tokens=False, **options)
    assert [*found] == ["DECODED_TEXT"]
    expected = [library.decode(json.loads(ids), skip).encode() for ids in given]
    assert found["DECODED_TEXT"].tolist() == [[text] for text in expected]
    assert expected[0].strip() == (FOX if skip else f"[CLS] {FOX} [SEP]").encode()
    found = run(made, [("a fox", FOX)], ["DECODED_TEXT"], max_seq_len=8, **options)
    left = b"a fox the quick brown" if skip else b"[CLS] a fox [SEP] the quick brown [SEP]"
    assert found["DECODED_TEXT"].tolist() == [[left]]


def test_ids_to_be_read_back_that_are_not_in_the_vocabulary_or_too_many_are_refused(made):
    for given, message in (("[101, 30522]", "token id 30522 is not in the vocab"), ("[-1]", "token id -1 is not in")):
        with pytest.raises(Refused, match=f"text 0: {message}"):
            run(made, [given], ["DECODED_TEXT"], is_tokenized=True, add_special_tokens=False)
    with pytest.raises(Refused, match="text 1: 33 tokens, more than max_seq_len 32"):
        ids = ["[7]", json.dumps([7] * 33)]
        run(made, ids, ["DECODED_TEXT"], is_tokenized=True, add_special_tokens=False, truncate=False)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "[5451, 656, 433]",
            {},
            r"text 0: its token ids do not begin with \[101\] and end with \[102\], as this model's",
        ),
        ("[101, 656]", {}, r"text 0: its token ids do not begin with"),
        ("[101]", {}, r"text 0: its token ids do not begin with"),
        ("[101, 102]", {}, r"text 0: no tokens; there is nothing to encode"),
        ("[101, 30522, 102]", {}, r"text 0: token id 30522 is not in the vocabulary, of 30522 tokens"),
        ("[101, -1, 102]", {}, r"text 0: token id -1 is not in the vocabulary"),
        (f"[101, {10**400}, 102]", {}, r"text 0: token id 10{50,}\.\.\. is not in the vocabulary"),
        ("[30522]", {"add_special_tokens": False}, r"text 0: token id 30522 is not in the vocabulary"),
        (
            "[101, true, 102]",
            {},
            r"text 0: with is_tokenized a text is one JSON array of token strings, or of token ids",
        ),
        ('[101, "hello", 102]', {}, r"text 0: with is_tokenized a text is one JSON array"),
        ("[101, 7592.0, 102]", {}, r"text 0: with is_tokenized a text is one JSON array"),
        ("[]", {}, r"text 0: no tokens"),
    ],
)
def test_ids_that_are_not_of_the_model_are_refused(made, text, options, message):
    with pytest.raises(Refused, match=message):
        run(made, [text], is_tokenized=True, **options)


@cache
def library_tokenizer(text: str) -> Tokenizer:
    made = Tokenizer.from_str(text)
    made.no_padding()
    return made


def by_the_library(texts: list[Any], limit: int, side: str = "right", text: str | None = None) -> list[Any]:
    whole = library_tokenizer(text or text_of_tokenizer())
    whole.enable_truncation(limit, direction=side)
    return whole.encode_batch(texts)


def random_texts(rng: random.Random, count: int) -> list[str]:
    words = ["the", "fox", "unbelievable", ".", "...", "中國", "[MASK]", "x" * 101, "naïve", "Straße"]
    return [" ".join(rng.choices(words, k=rng.choice([1, 3, 10, 20, 40]))) for _ in range(count)]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("limit", [5, 6, 31, 32])
@pytest.mark.parametrize("wanted", [ALL, ["input_ids", "token_type_ids"]])
def test_texts_and_pairs_are_what_the_library_makes_of_them(side, limit, wanted):
    rng = random.Random(limit)
    made = load(truncation_side=side)
    made.cutter.size = 16
    for _ in range(3):
        texts = random_texts(rng, 12)
        for given in (texts, list(zip(texts[::2], texts[1::2], strict=True))):
            found = run(made, given, wanted, max_seq_len=limit)
            expected = by_the_library(given, limit, side)
            width = max(len(e.ids) for e in expected)
            for name, values in (("input_ids", "ids"), ("token_type_ids", "type_ids")):
                rows = [getattr(e, values) + [0] * (width - len(e.ids)) for e in expected]
                assert found[name].tolist() == rows
            if "TOKEN_COUNT" in wanted:
                whole = by_the_library(given, 1 << 20)
                assert found["TOKEN_COUNT"].tolist() == [[len(e.ids)] for e in whole]


@pytest.mark.parametrize("kind", [unigram, byte_level_bpe])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("frame", "around"),
    [
        (("<s> $A </s>", "<s> $A </s> </s> $B </s>"), (2, 4)),
        (("<s> $A", "<s> $A <s> $B:1"), (1, 2)),
        (("$A </s>", "$A $B </s>"), (1, 1)),
        (("$A", "$A $B"), (0, 0)),
    ],
    ids=str,
)
def test_rows_of_tokenizers_of_other_kinds_are_what_the_library_makes_of_them(kind, side, frame, around):
    text = framed(kind(), *frame).to_str()
    made, rng = load(text, truncation_side=side), random.Random(1)
    texts = [*random_texts(rng, 23), "<mask> a <mask>  b</s>"]
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    for given, special in zip((texts, pairs), around, strict=True):
        found = run(made, given)
        for row, expected in enumerate(by_the_library(given, 32, side, text)):
            length = len(expected.ids)
            assert found["input_ids"][row, :length].tolist() == expected.ids
            assert found["TOKENS"][row, :length].tolist() == [made.vocabulary[i] for i in expected.ids]
            assert found["attention_mask"][row].sum() == length and not found["input_ids"][row, length:].any()
        whole = by_the_library(given, 1 << 20, text=text)
        assert found["TOKEN_COUNT"].tolist() == [[len(e.ids)] for e in whole]
        bare = run(made, given, mask_cls_sep=True)["pooling_mask"]
        assert ((found["pooling_mask"] - bare).sum(axis=1) == special).all()


def test_a_text_of_no_tokens_is_refused_where_no_special_token_stands_beside_it():
    values = json.loads(text_of_tokenizer())
    bare, blank = load(json.dumps({**values, "post_processor": None})), "\u200b"
    for texts in (["a", blank], [("a", "b"), (blank, blank)]):
        with pytest.raises(Refused, match="text 1: no tokens; there is nothing to encode"):
            run(bare, texts)
    assert run(bare, [(blank, "a"), ("a", blank)])["TOKENS"].tolist() == [[b"a"], [b"a"]]
    assert run(bare, ['["a", "|||", "fox"]'], is_tokenized=True)["TOKENS"].tolist() == [[b"a", b"fox"]]
    assert run(load(), [blank])["TOKENS"].tolist() == [[b"[CLS]", b"[SEP]"]]


def test_whether_special_tokens_are_words_is_the_familys_to_say_where_a_request_does_not():
    for made, default in ((load(), False), (load(split_special_tokens="true"), True)):
        for given, split in ((None, default), (True, True), (False, False)):
            options = {} if given is None else {"split_special_tokens": given}
            tokens = run(made, ["a [MASK]"], **options)["TOKENS"][0].tolist()
            assert (tokens != [b"[CLS]", b"a", b"[MASK]", b"[SEP]"]) == split


def test_a_long_text_is_read_no_further_than_its_tokens_are_kept(made):
    document = "the quick brown fox " * 50_000
    short = "the quick brown fox " * 40
    for text, like, most in (
        (document, short, 1),
        ((document, "a fox"), (short, "a fox"), 2),
        (("a fox", document), ("a fox", short), 2),
    ):
        found, pieces = finish(made, job_of(made, [text], ["input_ids"]))
        assert pieces <= most
        assert found["input_ids"].tolist() == [by_the_library([like], 32)[0].ids]
    counted, pieces = finish(made, job_of(made, [document], ["TOKEN_COUNT"]))
    assert pieces > 500 and counted["TOKEN_COUNT"].tolist() == [[200_002]]


def test_of_a_pair_that_is_too_long_on_both_sides_the_longer_keeps_the_odd_token(made):
    for lengths in ((0, 1), (1, 0), (0, 0)):
        long, short = (
            tuple(text * (size + n) for text, n in zip(("a ", "b "), lengths, strict=True)) for size in (30_000, 50)
        )
        found = run(made, [long], ["input_ids"])["input_ids"].tolist()
        assert found == [by_the_library([short], 32)[0].ids]


def test_a_long_text_is_refused_with_its_length_where_it_may_not_be_cut(made):
    with pytest.raises(Refused, match="text 1: 60002 tokens, more than max_seq_len 32"):
        run(made, ["a", "b " * 60_000], ["input_ids"], truncate=False)


def test_texts_that_take_long_are_not_started_at_once(made):
    for text in ("x" * 200_000, "\u200b" * 60_000 + "a"):
        job = job_of(made, [text], ["input_ids"])
        assert not job.start() and not job.pieces and not job.is_done
        assert finish(made, job_of(made, [text], ["input_ids"]))[0]["input_ids"].tolist() == [
            by_the_library([text], 32)[0].ids
        ]
    job = job_of(made, [json.dumps(["a"] * 60_000)], is_tokenized=True)
    assert not job.start() and not job.is_done
    assert finish(made, job)[0]["TOKEN_COUNT"].tolist() == [[60_002]]


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["a" * ((1 << 20) + 1)], {}, "text 0: 1048577 bytes; a text may have 1048576 bytes at most"),
        (
            ["a " * (1 << 19)] * 65,
            {},
            "the texts, each with its prompt, have 68157440 bytes; they may have 67108864 in all",
        ),
        (
            ["a"] * 5000,
            {"prompt": "x" * 16_000},
            "the texts, each with its prompt, have .* they may have 67108864 in all",
        ),
        ([b"\xff"], {}, "text 0: not valid UTF-8"),
        (["a", " \n"], {}, "text 1: empty or blank"),
        (["[" * (1 << 20)], {"is_tokenized": True}, "text 0: with is_tokenized a text is one JSON array"),
        (["[" + "9" * 100_000 + "]"], {"is_tokenized": True}, "text 0: with is_tokenized a text is one JSON array"),
        (['["\\ud800"]'], {"is_tokenized": True}, "text 0: with is_tokenized a text is one JSON array"),
        (["a"], {"max_seq_len": 10**30}, "max_seq_len is 1000000000000000000000000000000; it takes 3 to 32"),
        ([("a", "b")], {"max_seq_len": 4}, "max_seq_len is 4; it takes 5 to 32"),
        (["a"], {"pair_truncation": "x" * 9999}, "pair_truncation is 'x+.*; it takes longest_first or"),
        (["a"], {"prompt_name": "x" * 9999}, "prompt_name is 'x+.*; this model's prompts: query"),
        (["a"], {"input_type": "x" * 9999}, "input_type is 'x+.*; it takes query or document"),
        (["[]"], {"input_type": "query", "is_tokenized": True}, "is_tokenized goes without a prompt"),
    ],
)
def test_what_is_over_a_limit_is_refused_in_one_short_line(made, texts, options, message):
    with pytest.raises(Refused, match=message) as refusal:
        run(made, texts, **options)
    assert len(str(refusal.value)) < 300


QUERY, DOCUMENT, PASSAGE, CORPUS = "find ", "the ", "quick ", "brown "


@pytest.mark.parametrize(
    ("prompts", "of_queries", "of_documents"),
    [
        ({"query": QUERY, "corpus": CORPUS, "passage": PASSAGE, "document": DOCUMENT}, QUERY, DOCUMENT),
        ({"corpus": CORPUS, "passage": PASSAGE}, "", PASSAGE),
        ({"corpus": CORPUS, "other": "fox "}, "", CORPUS),
        ({"document": "", "passage": PASSAGE}, "", ""),
        ({"query": QUERY}, QUERY, ""),
        ({}, "", ""),
    ],
)
def test_texts_of_a_kind_get_the_checkpoints_prompt_for_it(prompts, of_queries, of_documents):
    made = load(prompts=json.dumps({"default": "lazy ", **prompts}), default_prompt_name="default")
    assert made.prompt({}) == "lazy "
    assert made.prompt({"input_type": "query"}) == of_queries
    assert made.prompt({"input_type": "document"}) == of_documents
    for other in ({"prompt": "dog "}, {"prompt": ""}, {"prompt_name": "default"}):
        assert made.prompt({"input_type": "query", **other}) == made.prompt(other)
    with pytest.raises(Refused, match="input_type is 'passage'; it takes query or document"):
        made.prompt({"input_type": "passage"})


def edited(**changes: Any) -> str:
    spec = json.loads(text_of_tokenizer())
    for part, change in changes.items():
        change(spec[part])
    return json.dumps(spec)


def test_tokens_are_named_by_their_ids_whatever_ids_are_missing():
    def punch(model: dict[str, Any]) -> None:
        for token in ("quick", "brown"):
            del model["vocab"][token]

    holed = load(edited(model=punch))
    tokens = run(holed, ["the fox ##lessness"])["TOKENS"][0].tolist()
    assert tokens[:3] == [b"[CLS]", b"the", b"fox"] and tokens[-1] == b"[SEP]"
    last = max(holed.vocabulary)
    assert len(holed.vocabulary) == last + 1 - 2  # those two ids have no token
    job = job_of(holed, ["fox"])
    job.start()
    job.take(holed.encode(["fox"]))
    job.rows[0][0].ids = [last + 7]
    assert token_rows.outputs(job)[0]["TOKENS"].tolist() == [[b"[CLS]", b"", b"[SEP]"]]


def test_an_id_that_int32_cannot_hold_is_refused_at_the_start():
    with pytest.raises(ValueError, match="ids above 2147483647 do not fit INT32"):
        load(edited(model=lambda model: model["vocab"].update({"vast": 1 << 31})))


@pytest.mark.parametrize("model", [models.BPE({"a": 0, "b": 1, "<s>": 2}, []), models.Unigram([("a", -1.0)])])
def test_a_model_without_an_unknown_token_starts_and_refuses_only_tokens_that_it_lacks(model):
    bare = Tokenizer(model)
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    made = load(bare.to_str())
    assert run(made, ['["a", "a"]'], is_tokenized=True)["input_ids"].shape == (1, 2)
    with pytest.raises(Refused, match="text 1: the token 'nope' is not in the vocabulary, which has no unknown"):
        run(made, ['["a"]', '["a", "nope"]'], is_tokenized=True)


def test_special_tokens_are_those_of_the_files_post_processor_wherever_they_stand():
    whole = Tokenizer.from_str(text_of_tokenizer())
    ids = {token: whole.token_to_id(token) for token in ("[PAD]", "[CLS]", "[SEP]", "[MASK]")}
    whole.post_processor = processors.TemplateProcessing(
        single="[PAD]:1 [MASK]:1 $A:1 [CLS]:0",
        pair="[CLS]:0 [MASK]:0 $A:0 [SEP]:0 [SEP]:1 $B:0",
        special_tokens=list(ids.items()),
    )
    text = whole.to_str()
    made = load(text)
    for texts in (["a fox", "a " * 50], [("a fox", "b"), ("a " * 50, "b " * 60)]):
        found = run(made, texts)
        for row, expected in zip(range(len(texts)), by_the_library(texts, 32, text=text), strict=True):
            length = len(expected.ids)
            assert found["input_ids"][row, :length].tolist() == expected.ids
            assert found["token_type_ids"][row, :length].tolist() == expected.type_ids
        masked = run(made, texts, mask_cls_sep=True)
        assert masked["pooling_mask"][1].sum() == 32 - (3 if len(texts[0]) == 5 else 4)


@pytest.mark.parametrize(
    ("prompt", "limit", "unpooled"),
    [
        ("", 32, 0),
        ("find ", 32, 2),
        ("find the fox: ", 32, 5),
        ("find [SEP]", 32, 3),
        ("word " * 40, 32, 31),
        ("a b", 3, 2),
    ],
)
def test_a_prompt_that_is_not_pooled_is_marked_from_the_first_special_token_on(prompt, limit, unpooled):
    job = job_of(load(include_prompt="false"), ["the fox", "a"], prompt=prompt, max_seq_len=limit)
    found, _ = finish(job.tokenizer, job)
    for mask, real in zip(found["pooling_mask"], found["attention_mask"], strict=True):
        length = real.sum()
        assert mask.tolist() == [2] * unpooled + [1] * (length - unpooled) + [0] * (len(mask) - length)
    same = run(load(), ["the fox", "a"], prompt=prompt, max_seq_len=limit)
    assert {name: array.tolist() for name, array in same.items() if name != "pooling_mask"} == {
        name: array.tolist() for name, array in found.items() if name != "pooling_mask"
    }
    assert (same["pooling_mask"] == same["attention_mask"]).all()


def test_the_prompt_of_a_pair_stands_before_its_first_text(made):
    apart = load(include_prompt="false", default_prompt_name="query")
    (mask,) = run(apart, [("a", "b c")])["pooling_mask"]
    assert mask.tolist() == [2, 2, 1, 1, 1, 1, 1]  # [CLS] find a [SEP] b c [SEP]
    (mask,) = run(apart, [("a", "b c")], mask_cls_sep=True)["pooling_mask"]
    assert mask.tolist() == [0, 2, 1, 0, 1, 1, 0]
    assert run(apart, ['["a"]'], is_tokenized=True)["pooling_mask"].tolist() == [[1, 1, 1]]


def test_without_a_special_token_behind_it_a_prompt_ends_with_its_last_token():
    text = json.loads(text_of_tokenizer())
    text["post_processor"] = None
    bare = load(json.dumps(text), include_prompt="false")
    assert run(bare, ["the fox"], prompt="find ")["pooling_mask"].tolist() == [[2, 1, 1]]
    # As in sentence-transformers, which takes a special token at the end for the one behind every text.
    assert run(bare, ["the fox"], prompt="find [SEP]")["pooling_mask"].tolist() == [[2, 1, 1, 1]]


def filled(length: int, fixed: bool = True, attend: bool = False, **settings: Any):
    expansion = json.dumps({"id": 103, "length": length, "fixed": fixed, "attend": attend})
    lengths = json.dumps({"document": 6, **({"query": length} if fixed else {})})
    return load(expansion=expansion, lengths=lengths, prompts='{"query": ""}', **settings)


@pytest.mark.parametrize("attend", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_queries_are_filled_up_with_a_token_that_counts_and_is_attended_to_where_it_should_be(fixed, attend):
    made, texts = filled(8, fixed, attend), ["the fox", "the quick brown fox jumped over it"]
    whole = by_the_library(texts, 32)
    found = run(made, texts, input_type="query")
    assert found["input_ids"].shape[1] == (8 if fixed else 9)
    assert found["input_ids"][0, :8].tolist() == [*whole[0].ids, *[103] * 4]
    assert found["attention_mask"][0].tolist() == [1] * 8 + [0] * (not fixed)
    assert found["pooling_mask"][0].tolist() == [1] * 4 + [int(attend)] * 4 + [0] * (not fixed)
    assert found["TOKENS"][0, :8].tolist() == [*[t.encode() for t in whole[0].tokens], *[b"[MASK]"] * 4]
    cut = by_the_library(texts, 8)[1].ids if fixed else whole[1].ids
    assert found["input_ids"][1].tolist() == cut
    assert found["TOKEN_COUNT"].tolist() == [[len(encoding.ids)] for encoding in whole]


def test_other_texts_are_not_filled_up_and_cut_at_the_length_of_their_type():
    made, text = filled(8), "the quick brown fox jumped over it"
    for options, limit in (
        ({"input_type": "document"}, 6),
        ({}, 32),
        ({"input_type": "document", "max_seq_len": 7}, 7),
    ):
        found = run(made, [text], **options)
        assert found["input_ids"][0].tolist() == by_the_library([text], limit)[0].ids
        assert (found["pooling_mask"] == 1).all()
    with pytest.raises(Refused, match="text 0: 9 tokens, more than max_seq_len 6"):
        run(made, [text], input_type="document", truncate=False)


@pytest.mark.parametrize(
    ("fixed", "limit", "message"),
    [
        (
            True,
            9,
            "parameter max_seq_len is 9; it takes 8 to 8, special tokens included for queries, which are filled up",
        ),
        (True, 7, "it takes 8 to 8"),
        (False, 7, "it takes 8 to 32"),
        (False, 33, "it takes 8 to 32"),
    ],
)
def test_queries_that_are_filled_up_have_no_other_length(fixed, limit, message):
    with pytest.raises(Refused, match=message):
        run(filled(8, fixed), ["the fox"], input_type="query", max_seq_len=limit)
    run(filled(8, fixed), ["the fox"], input_type="document", max_seq_len=7)


def test_a_width_that_is_rounded_up_holds_what_queries_are_filled_up_with():
    found = run(filled(8, pad_to_multiple_of="16"), ["the fox"], input_type="query")
    assert found["input_ids"].shape == (1, 16) and found["attention_mask"].sum() == 8
