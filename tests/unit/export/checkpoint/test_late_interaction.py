"""Checkpoints of late interaction, in the forms of sentence-transformers, PyLate and Stanford's ColBERT."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from export import settings
from export.checkpoint import checkpoint
from export.checkpoint.late_interaction import Expansion, LateInteraction
from export.errors import ExportError
from export.network.architectures.encoder import TokenVectors
from export.settings import Request
from tests.support.checkpoints.architectures import VARIANTS
from tests.support.checkpoints.folders import write_json, write_modules
from tests.support.checkpoints.late_interaction import (
    BERT,
    DENSE,
    MARKED,
    MASK,
    NORMALIZE,
    TOKENS,
    dense,
    write,
    write_pylate,
    write_stanford,
)

ID = {token: index for index, token in enumerate(MARKED)}
MASK_ID = ID["[MASK]"]
PUNCTUATION = tuple(sorted(ID[mark] for mark in string.punctuation if mark in ID))
EXPANSION = {"strategy": "fixed", "length": 20}
FIRST = (DENSE, {**dense(24), **TOKENS})
LAST = (NORMALIZE, TOKENS)


def multi(folder: Path) -> LateInteraction:
    found = checkpoint.load(str(folder)).multi
    assert found
    return found


def head(folder: Path) -> TokenVectors:
    found = checkpoint.load(str(folder)).head
    assert isinstance(found, TokenVectors)
    return found


def test_a_plain_one_becomes_a_family_of_its_own_roles(tmp_path: Path) -> None:
    write(tmp_path)
    source = checkpoint.load(str(tmp_path))
    family = settings.settled(Request(str(tmp_path), "own", tmp_path), source)
    assert [*family.models()] == ["own_multi", "own_tokenizer", "own_encoder", "own_pooling"]
    assert family.prompts == {"query": "", "document": ""} and family.similarity == "maxsim"
    assert family.multi == LateInteraction(16, "identity normalize", {}) and family.max_seq_len == 66
    assert family.outputs == {"token_vectors": [-1, 16]}


def test_what_is_done_to_tokens_is_what_the_modules_say(tmp_path: Path) -> None:
    write(
        tmp_path,
        BERT,
        (DENSE, {**dense(24, 20, "activation.GELU", bias=True, use_residual=True), **TOKENS}),
        (MASK, {}),
        (DENSE, dense(20, 20, "activation.LeakyReLU", use_residual=True)),
    )
    one, other = head(tmp_path).projections
    assert one.linear.bias and one.adds and one.residual and (one.size_in, one.size, one.activation) == (24, 20, "gelu")
    assert not other.linear.bias and other.adds and not other.residual and other.activation == "leaky_relu"
    assert not head(tmp_path).normalize
    assert multi(tmp_path).made == "gelu+residual leaky_relu+residual"


@pytest.mark.parametrize(
    ("loading", "lengths", "expansion"),
    [
        ({}, {}, None),
        ({"document_length": 30}, {"document": 30}, None),
        ({"query_length": 9, "max_seq_length": 40}, {"query": 9}, None),
        # The longest text is then a document.
        ({"document_length": 50, "max_seq_length": 40}, {"query": 40, "": 40}, None),
        ({"document_length": 5000}, {}, None),
        ({"query_expansion": EXPANSION}, {"query": 20}, Expansion(MASK_ID, 20)),
        (
            {"query_expansion": {**EXPANSION, "attend": True, "token": "the"}},
            {"query": 20},
            Expansion(ID["the"], 20, attend=True),
        ),
        (
            {"query_expansion": {**EXPANSION, "strategy": "min"}, "query_length": 25},
            {"query": 25},
            Expansion(MASK_ID, 20, fixed=False),
        ),
        # Wider than the tokenizer cuts other texts.
        (
            {"query_expansion": {**EXPANSION, "length": 64}, "max_seq_length": 40},
            {"document": 40, "": 40},
            Expansion(MASK_ID, 64),
        ),
        ({"query_expansion": None}, {}, None),
    ],
)
def test_lengths_and_expansion_are_what_the_transformer_says(
    tmp_path: Path, loading: Any, lengths: Any, expansion: Any
) -> None:
    write(tmp_path, loading=loading)
    source = checkpoint.load(str(tmp_path))
    family = settings.settled(Request(str(tmp_path), "own", tmp_path), source)
    assert family.multi and (family.multi.lengths, family.multi.expansion) == (lengths, expansion)
    assert head(tmp_path).silent == (expansion is not None and not expansion.attend)


@pytest.mark.parametrize(
    ("mask", "ids", "types"),
    [
        ({}, (), ("document",)),
        ({"skiplist_words": [], "skiplist_tasks": ["document"], "keep_only_token_ids": None}, (), ("document",)),
        ({"skiplist_words": list(string.punctuation)}, PUNCTUATION, ("document",)),
        (
            {"skiplist_words": ["the", "no such word", "[UNK]"], "skiplist_tasks": "query"},
            (ID["[UNK]"], ID["the"]),
            ("query",),
        ),
        ({"skiplist_words": ["the"], "skiplist_tasks": ["query", "document"]}, (ID["the"],), ("query", "document")),
    ],
)
def test_the_skip_list_is_what_the_mask_says(tmp_path: Path, mask: Any, ids: Any, types: Any) -> None:
    write(tmp_path, BERT, FIRST, (MASK, mask), LAST)
    assert (multi(tmp_path).skip_ids, multi(tmp_path).skip_types) == (ids, types)


@pytest.mark.parametrize(
    ("own", "lengths", "expansion", "skips"),
    [
        ({"model_type": "ColBERT"}, {"query": 31, "document": 31, "": 31}, None, PUNCTUATION),
        (
            {"model_type": "ColBERT", "query_prefix": "[Q] ", "query_length": 16, "document_length": 24},
            {"query": 16, "document": 24, "": 31},
            Expansion(MASK_ID, 16),
            PUNCTUATION,
        ),
        # Before there was a model_type.
        (
            {"document_length": 24, "attend_to_expansion_tokens": True, "skiplist_words": ["the"]},
            {"query": 32, "document": 24, "": 31},
            Expansion(MASK_ID, 32, attend=True),
            (ID["the"],),
        ),
        (
            {"query_length": 16, "do_query_expansion": False, "skiplist_words": []},
            {"query": 16, "document": 31, "": 31},
            None,
            (),
        ),
        # Where its own skip list is not looked for.
        ({}, {"query": 31, "document": 31, "": 31}, None, ()),
        (
            {"document_prefix": None, "do_query_expansion": False},
            {"query": 31, "document": 31, "": 31},
            None,
            PUNCTUATION,
        ),
    ],
)
def test_what_pylate_says_is_read_as_sentence_transformers_reads_it(
    tmp_path: Path, own: Any, lengths: Any, expansion: Any, skips: Any
) -> None:
    write_pylate(tmp_path, own)
    found = multi(tmp_path)
    assert (found.lengths, found.expansion, found.skip_ids) == (lengths, expansion, skips)
    assert found.made == "identity normalize" and checkpoint.load(str(tmp_path)).defaults.similarity == "maxsim"


@pytest.mark.parametrize(
    ("prefixes", "prompts", "expected"),
    [
        (("[Q] ", "[D] "), {}, {"query": "[Q] ", "document": "[D] "}),
        (("[Q] ", None), {"query": "find: ", "other": "x"}, {"query": "[Q] find: ", "document": "", "other": "x"}),
        (("[Q] ", ""), {"query": "[Q] find: "}, {"query": "[Q] find: ", "document": ""}),
    ],
)
def test_pylates_markers_stand_before_its_prompts(tmp_path: Path, prefixes: Any, prompts: Any, expected: Any) -> None:
    own = dict(zip(("query_prefix", "document_prefix"), prefixes, strict=True))
    write_pylate(tmp_path, {"model_type": "ColBERT", "prompts": prompts, **own})
    assert checkpoint.load(str(tmp_path)).defaults.prompts == expected


@pytest.mark.parametrize(
    ("metadata", "lengths", "expansion", "skips"),
    [
        (None, {"query": 32, "document": 66, "": 66}, Expansion(MASK_ID, 32), PUNCTUATION),
        (
            {"doc_maxlen": 18, "query_maxlen": 12, "mask_punctuation": False, "attend_to_mask_tokens": True},
            {"query": 12, "document": 18, "": 66},
            Expansion(MASK_ID, 12, attend=True),
            (),
        ),
    ],
)
def test_stanfords_metadata_is_read_as_sentence_transformers_reads_it(
    tmp_path: Path, metadata: Any, lengths: Any, expansion: Any, skips: Any
) -> None:
    write_stanford(tmp_path, metadata)
    found = multi(tmp_path)
    assert (found.lengths, found.expansion, found.skip_ids) == (lengths, expansion, skips)
    source = checkpoint.load(str(tmp_path))
    assert source.defaults.prompts == {"query": "[unused0] ", "document": "[unused1] "}
    tokenizer = Tokenizer.from_str(source.tokenizer_json)
    assert tokenizer.encode("[unused0] the").ids == [ID["[CLS]"], ID["[unused0]"], ID["the"], ID["[SEP]"]]
    assert checkpoint.load(str(tmp_path), encoder_only=True).multi is None


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([FIRST, LAST], "modules.json: has no MultiVectorMask to say what vectors count"),
        ([FIRST, (MASK, {}), (MASK, {})], "a MultiVectorMask behind vectors of tokens; export works for Dense, Multi"),
        ([("sentence_transformers.models.Pooling", {}), FIRST, (MASK, {})], "a Pooling behind vectors of tokens"),
        ([(MASK, {}), LAST, FIRST], "a Dense behind a Normalize"),
        ([FIRST, (MASK, {}), (NORMALIZE, {})], "module_input_name is 'sentence_embedding'; export works for 'token_em"),
        ([(DENSE, {**dense(24), "module_input_name": "sentence_embedding"}), (MASK, {})], "module_input_name is 'sent"),
        ([(DENSE, dense(20)), (MASK, {})], "in_features is 20, but the vectors before it have length 24"),
        ([(DENSE, dense(24, activation="activation.Mish")), (MASK, {})], "activation_function is 'torch.*Mish'"),
        ([FIRST, (MASK, {"keep_only_token_ids": [3]})], r"keep_only_token_ids is \[3\], which is for images"),
        ([FIRST, (MASK, {"skiplist_words": "the"})], "skiplist_words is 'the'; a list of strings is expected"),
        ([FIRST, (MASK, {"skiplist_tasks": ["passage"]})], "skiplist_tasks is .* export works for query and document"),
        ([FIRST, (MASK, {"more": 1})], "sets more, which export does not apply"),
    ],
)
def test_modules_that_would_give_other_vectors_are_refused(tmp_path: Path, modules: Any, message: str) -> None:
    write(tmp_path, BERT, *modules)
    with pytest.raises(ExportError, match=message):
        checkpoint.load(str(tmp_path))


@pytest.mark.parametrize(
    ("loading", "message"),
    [
        ({"query_length": 0}, "query_length is 0; a whole number above 0"),
        ({"document_length": "all"}, "document_length is 'all'"),
        ({"query_expansion": "fixed"}, "query_expansion is 'fixed'; an object is expected"),
        ({"query_expansion": {"strategy": "max", "length": 9}}, "has strategy 'max'; fixed or min is expected"),
        ({"query_expansion": {**EXPANSION, "attend": 1}}, "has attend 1; true or false"),
        ({"query_expansion": {"strategy": "min"}}, "query_expansion's length is ''; a whole number"),
        ({"query_expansion": {**EXPANSION, "when": 1}}, "query_expansion sets when"),
        (
            {"query_expansion": {**EXPANSION, "token": "[no]"}},
            "fills queries up with '.no.', which is no token of",
        ),
        ({"query_expansion": {**EXPANSION, "length": 67}}, "fills queries up to 67 tokens; this checkpoint takes 66"),
        ({"query_expansion": EXPANSION, "query_length": 19}, "query_length is 19, and query_expansion fills .* to 20"),
        (
            {"query_expansion": EXPANSION, "processor_kwargs": {"padding_side": "left"}},
            "where the tokenizer pads them, on the left with the token type 0",
        ),
        ({"transformer_task": "fill-mask"}, "transformer_task is 'fill-mask' .export works for 'feature-extraction'"),
    ],
)
def test_lengths_and_expansions_that_cannot_be_served_are_refused(tmp_path: Path, loading: Any, message: str) -> None:
    write(tmp_path, loading=loading)
    with pytest.raises(ExportError, match=message):
        checkpoint.load(str(tmp_path))


@pytest.mark.parametrize("name", ["deberta", "deberta-v2"])
def test_deberta_where_tokens_that_nobody_attends_to_attend_to_nothing_is_refused(tmp_path: Path, name: str) -> None:
    settings = {**VARIANTS[name], "vocab_size": len(MARKED), "pad_token_id": 0}
    write(tmp_path, settings, loading={"query_expansion": EXPANSION})
    with pytest.raises(ExportError, match=f"which in {name} attend to nothing; export works for attend true"):
        checkpoint.load(str(tmp_path))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pooling": "cls"}, "--pooling is for dense vectors, and .* gives a vector for each token"),
        ({"precision": "int8"}, "--precision int8 is measured on dense vectors"),
        ({"backend": "tensorrt"}, "--backend tensorrt has not been tried with a vector for each token"),
        ({"max_seq_len": 19}, "--max-seq-len is 19; queries of this checkpoint are filled up to 20 tokens"),
    ],
)
def test_options_that_have_no_meaning_are_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    write(tmp_path, loading={"query_expansion": EXPANSION})
    with pytest.raises(ExportError, match=message):
        settings.settled(Request(str(tmp_path), "own", tmp_path, **given), checkpoint.load(str(tmp_path)))


def test_a_lower_limit_holds_for_texts_of_every_type(tmp_path: Path) -> None:
    write(tmp_path, loading={"query_expansion": EXPANSION, "document_length": 50})
    family = settings.settled(Request(str(tmp_path), "own", tmp_path, max_seq_len=30), checkpoint.load(str(tmp_path)))
    assert family.max_seq_len == 30 and family.multi and family.multi.lengths == {"query": 20}


def test_a_head_is_not_asked_for(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ExportError, match="gives a vector of each token; --head splade is for masked language models"):
        checkpoint.load(str(tmp_path), head="splade")


def test_a_mask_is_for_vectors_of_tokens(tmp_path: Path) -> None:
    write(tmp_path)
    write_json(tmp_path / "config_sentence_transformers.json", {})
    write_modules(tmp_path, ("sentence_transformers.models.Pooling", {}), (MASK, {}))
    with pytest.raises(ExportError, match="a MultiVectorMask is for vectors of tokens, of a MultiVectorEncoder"):
        checkpoint.load(str(tmp_path))


def test_keys_of_late_interaction_are_refused_elsewhere(tmp_path: Path) -> None:
    write(tmp_path)
    write_json(tmp_path / "config_sentence_transformers.json", {})
    write_modules(tmp_path, ("sentence_transformers.models.Pooling", {}), settings={"query_length": 9})
    with pytest.raises(ExportError, match="sets query_length, which export does not apply"):
        checkpoint.load(str(tmp_path))


def test_stanfords_projection_belongs_to_its_encoder(tmp_path: Path) -> None:
    write_stanford(tmp_path, {"query_token_id": 3})
    with pytest.raises(ExportError, match="query_token_id is 3; a token is expected"):
        checkpoint.load(str(tmp_path))
