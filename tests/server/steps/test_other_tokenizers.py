"""Families with another tokenizer than BERT's, or one set to work otherwise, beside AutoTokenizer of their files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from transformers import AutoTokenizer

from client_sdk import Client, LocalServer
from tests.conftest import fill
from tests.support.checkpoints import plain_bert
from tests.support.checkpoints.folders import VOCABULARY, write_bert, write_json
from tests.support.servers.triton_requests import infer
from tests.support.trained_tokenizers import (
    SIZE,
    bpe_files,
    byte_level_bpe,
    framed,
    sentencepiece_model,
    unigram,
    write_trained,
)

LIMIT = 32
FAMILIES = ("unigram", "bytes", "pieces", "merges", "head", "left")
TEXTS = [
    "The quick brown fox jumped over 13 lazy dogs, didn't it?",
    "  two  blanks\tand a tab ",
    "café naïve Ünïcödé ﬁne 中文字 한국어 Приве́т 🙂👩\u200d👧",
    "a <mask> b</s> c<s> [MASK] [SEP]",
    "the fox " * 40 + "at the end",
    "x" * 300,
]
PAIRS = [("the fox", "dog"), (TEXTS[4], "a short one"), ("a short one", TEXTS[4]), (TEXTS[4], TEXTS[0] * 3)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A checkpoint for each of FAMILIES, in the folder of its name; and their weights, which are small and random.

    `unigram` and `bytes`: the tokenizers of trained_tokenizers. `pieces` and `merges`: without a tokenizer.json, from
    the files of SentencePiece and of RoBERTa. `head`: with special tokens before a text and none behind it. `left`:
    BERT's own, cut on the left, and without special tokens in a text.
    """
    folder = tmp_path_factory.mktemp("checkpoints")
    numbered = [*VOCABULARY, *map(str, range(SIZE - len(VOCABULARY)))]
    weights = {name: write_bert(folder / name, positions=LIMIT, vocabulary=numbered) for name in FAMILIES}
    write_trained(folder / "unigram", unigram(), of_class="XLMRobertaTokenizer")
    write_trained(folder / "bytes", byte_level_bpe(), of_class="RobertaTokenizer", settings={"truncation_side": "left"})
    write_trained(folder / "head", framed(byte_level_bpe(), "<s> $A", "<s> $A <s> $B"), of_class="TokenizersBackend")
    model = sentencepiece_model("<unk>", "<s>", "</s>", "<pad>")
    for name, files, of_class in (
        ("pieces", {"sentencepiece.bpe.model": model}, "XLMRobertaTokenizer"),
        ("merges", bpe_files(), "RobertaTokenizer"),
    ):
        (folder / name / "tokenizer.json").unlink()
        write_json(folder / name / "tokenizer_config.json", {"tokenizer_class": of_class})
        for file, content in files.items():
            (folder / name / file).write_bytes(content)
    path = folder / "left/tokenizer_config.json"
    settings = {**json.loads(path.read_text()), "truncation_side": "left", "split_special_tokens": True}
    write_json(path, settings)
    return folder, weights


@pytest.fixture(scope="module")
def own_server(
    checkpoints: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServer]:
    repository = tmp_path_factory.mktemp("other_tokenizers")
    for name in FAMILIES:
        fill(repository, checkpoints[0] / name, name)
    with LocalServer(repository) as server:
        yield server


@pytest.fixture(scope="module")
def tokenizers(checkpoints: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    """AutoTokenizer of each family's checkpoint."""
    return {name: AutoTokenizer.from_pretrained(checkpoints[0] / name) for name in FAMILIES}


@pytest.fixture(scope="module")
def theirs(tokenizers: dict[str, Any]) -> Callable[..., Any]:
    """theirs(family, first, second): what AutoTokenizer makes of texts, or of pairs."""

    def encode(family: str, *texts: list[str]) -> Any:
        return tokenizers[family](*texts, truncation=True, max_length=LIMIT)

    return encode


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("given", [TEXTS, PAIRS], ids=["texts", "pairs"])
def test_ids_are_those_of_transformers(own_server, theirs, family, given):
    pairs = given is PAIRS
    expected = theirs(family, *map(list, zip(*given, strict=True))) if pairs else theirs(family, given)
    array = np.array([[t.encode() for t in (text if pairs else (text,))] for text in given], object)
    with triton.InferenceServerClient(own_server.grpc_url.removeprefix("grpc://")) as client:
        found = infer(client, f"{family}_tokenizer", {"TEXT": array}, ["input_ids", "attention_mask", "token_type_ids"])
    assert {len(ids) for ids in expected["input_ids"]} > {LIMIT}
    for row, ids in enumerate(expected["input_ids"]):
        length = found["attention_mask"][row].sum()
        assert found["input_ids"][row, :length].tolist() == ids
        types = expected["token_type_ids"][row] if "token_type_ids" in expected else [0] * length
        assert found["token_type_ids"][row, :length].tolist() == types


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_and_counts_are_those_of_transformers(own_server, tokenizers, family):
    theirs, texts = tokenizers[family], TEXTS[:-1]
    whole, cut = theirs(texts)["input_ids"], theirs(texts, truncation=True, max_length=LIMIT)["input_ids"]
    array = np.array([[text.encode()] for text in texts], object)
    names = ["TOKENS", "TOKEN_COUNT", "attention_mask", "pooling_mask"]
    with triton.InferenceServerClient(own_server.grpc_url.removeprefix("grpc://")) as client:

        def found(texts: Any, **parameters: Any) -> dict[str, Any]:
            return infer(client, f"{family}_tokenizer", {"TEXT": texts}, names, parameters=parameters)

        plain, masked = found(array), found(array, mask_cls_sep=True)
        given = np.array([[json.dumps(theirs.tokenize(text)).encode()] for text in texts[:3]], object)
        again = found(given, is_tokenized=True)
        bare = found(given, is_tokenized=True, add_special_tokens=False)
    assert plain["TOKEN_COUNT"].tolist() == [[len(ids)] for ids in whole]
    for row, ids in enumerate(cut):
        tokens = [token.encode() for token in theirs.convert_ids_to_tokens(ids)]
        assert plain["TOKENS"][row, : len(ids)].tolist() == tokens
        special = theirs(texts[row], truncation=True, max_length=LIMIT, return_special_tokens_mask=True)
        around = {"head": 1}.get(family, 2)
        assert sum(special["special_tokens_mask"]) == around
        assert masked["pooling_mask"][row, : len(ids)].tolist() == [1 - s for s in special["special_tokens_mask"]]
        if row < 3 and len(ids) < LIMIT:
            assert again["TOKENS"][row, : len(ids)].tolist() == tokens
            assert bare["attention_mask"][row].sum() == len(ids) - around


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_read_back_as_by_transformers(own_server, tokenizers, family, skip):
    theirs = tokenizers[family]
    rows = theirs(TEXTS, truncation=True, max_length=LIMIT)["input_ids"]
    rows += [row[1:4] for row in rows] + [row[-1:] for row in rows]  # from the middle of words and characters, and bare
    given = np.array([[json.dumps(row).encode()] for row in rows], object)
    options = {"is_tokenized": True, "add_special_tokens": False} | ({} if skip else {"skip_special_tokens": False})
    with triton.InferenceServerClient(own_server.grpc_url.removeprefix("grpc://")) as client:
        found = infer(client, f"{family}_tokenizer", {"TEXT": given}, ["DECODED_TEXT"], parameters=options)
        again = infer(
            client,
            f"{family}_tokenizer",
            {"TEXT": np.array([[text.encode()] for text in TEXTS], object)},
            ["DECODED_TEXT"],
            parameters={} if skip else {"skip_special_tokens": False},
        )
    expected = [
        theirs.decode(row, skip_special_tokens=skip, clean_up_tokenization_spaces=False).encode() for row in rows
    ]
    assert found["DECODED_TEXT"].tolist() == [[text] for text in expected]
    assert again["DECODED_TEXT"].tolist() == [[text] for text in expected[: len(TEXTS)]]  # of what is kept of a text
    assert len({*expected}) > len(TEXTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_the_ids_of_transformers(own_server, checkpoints, theirs, family):
    with Client(own_server.grpc_url, model=family) as client:
        found = client.encode(TEXTS)
    for vector, ids in zip(found, theirs(family, TEXTS)["input_ids"], strict=True):
        state = plain_bert.layers(checkpoints[1][family], ids, heads=4)[-1]
        np.testing.assert_allclose(vector, state.mean(0), rtol=0, atol=1e-5)


def test_a_family_that_cuts_up_special_tokens_lets_a_request_have_them(own_server):
    for url in (own_server.grpc_url, own_server.http_url):
        with Client(url, model="left") as client:

            def tokens(client: Client = client, **options: Any) -> list[str]:
                return list(client.encode_tokens("a [MASK]", **options).tokens)

            assert tokens(split_special_tokens=False) == ["[CLS]", "a", "[MASK]", "[SEP]"]
            assert tokens() == tokens(split_special_tokens=True) != tokens(split_special_tokens=False)
