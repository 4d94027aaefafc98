"""Sparse vectors on a real server, beside what sentence-transformers makes of the same folder.

With --live, that is SparseEncoder; else ids by transformers' tokenizer through the network in its other layout, which
test_sparse_networks compares with transformers' classes.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from transformers import AutoTokenizer

from client_sdk import AsyncClient, Client, InvalidArgument, LocalServer, SparseVectors
from client_sdk._commands.main import main
from export.checkpoint import checkpoint
from export.network import network
from export.network.batches import padded
from tests.conftest import fill
from tests.support.checkpoints.architectures import MASKED_LMS, read, write_masked_lm
from tests.support.checkpoints.folders import VOCABULARY, write_json, write_modules, write_tokenizer
from tests.support.trained_tokenizers import SIZE, byte_level_bpe, unigram, write_trained

SPLADE = "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling"
LOADED = {
    "transformer_task": "fill-mask",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
}
FAMILIES = {
    "bert": ("BertForMaskedLM", "bert.", {"pooling_strategy": "max"}),
    "distilbert": ("DistilBertForMaskedLM", "distilbert.", {"pooling_strategy": "sum"}),
    "xlm-roberta": ("XLMRobertaForMaskedLM", "roberta.", {"activation_function": "log1p_relu"}),
    "modernbert": ("ModernBertForMaskedLM", "model.", {}),
}
TEXTS = ["the fox", "a", "The quick brown fox jumped over the lazy dog.", "hello world " * 60, "cafe #1"] * 20
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masked_lms")
    for name, (of_class, prefix, pooling) in FAMILIES.items():
        is_plain = name in ("bert", "distilbert")
        settings = {**MASKED_LMS[name][0], "architectures": [of_class]}
        write_masked_lm(folder / name, {**settings, "vocab_size": len(VOCABULARY) if is_plain else SIZE}, prefix)
        if is_plain:
            write_tokenizer(folder / name, VOCABULARY)
        elif name == "modernbert":
            write_trained(folder / name, byte_level_bpe(), of_class="RobertaTokenizer")
        else:
            write_trained(folder / name, unigram(), of_class="XLMRobertaTokenizer")
        # Past the last position sentence-transformers fails, where a family cuts.
        loaded = {**LOADED, "max_seq_length": read(settings).max_positions}
        write_modules(folder / name, (SPLADE, pooling), settings=loaded)
        write_json(folder / name / "config_sentence_transformers.json", {"model_type": "SparseEncoder"})
    return folder


@pytest.fixture(scope="module")
def own_server(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    repository = tmp_path_factory.mktemp("repository")
    for name in FAMILIES:
        fill(repository, folders / name, name)
    with LocalServer(repository) as server:
        yield server


def encoded(live: bool, folder: Path) -> np.ndarray:
    """Of TEXTS, [N, vocabulary]."""
    if live:
        from sentence_transformers import SparseEncoder

        return SparseEncoder(str(folder), device="cpu").encode(TEXTS).to_dense().numpy()
    source = checkpoint.load(str(folder))
    model = network.build(source.encoder, source.weights, is_padded=True, head=source.head)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encodings = tokenizer(TEXTS, truncation=True, max_length=source.defaults.max_seq_len).encodings
    indices, weights = session.run(None, padded(encodings))
    vectors = np.zeros((len(TEXTS), source.encoder.vocab_size + 1), np.float32)
    np.put_along_axis(vectors, indices, weights, axis=1)
    return vectors[:, :-1]


def check(found: SparseVectors, expected: np.ndarray) -> None:
    assert found.dimension == expected.shape[1]
    np.testing.assert_allclose(found.to_scipy().toarray(), expected, rtol=1e-5, atol=TOLERANCE)
    np.testing.assert_array_equal(found.lengths, [len(vector.weights) for vector in found])
    assert all((np.diff(vector.weights) <= 0).all() for vector in found)


@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_are_those_of_the_sparse_encoder(own_server, folders, live, name):
    expected = encoded(live, folders / name)

    async def asked() -> list[Any]:
        async with AsyncClient(own_server.grpc_url, model=name) as client:
            return [await client.encode_sparse(TEXTS), await client.encode_sparse(TEXTS[2])]

    for url in (own_server.grpc_url, own_server.http_url):
        with Client(url, model=name) as client:
            check(client.encode_sparse(TEXTS), expected)
            check(client.encode_sparse(iter(TEXTS), batch_size=3), expected)
            one = client.encode_sparse(TEXTS[2])
            np.testing.assert_allclose(one.weights, expected[2, one.indices], rtol=1e-5, atol=TOLERANCE)
            assert len(one.indices) == (expected[2] > 0).sum()
    several, single = asyncio.run(asked())
    check(several, expected)
    np.testing.assert_array_equal(single.indices, one.indices)


def test_no_more_words_are_kept_than_asked_for(own_server):
    with Client(own_server.grpc_url, model="bert") as client:
        whole, cut = client.encode_sparse(TEXTS), client.encode_sparse(TEXTS, max_active_dims=7)
    assert (cut.lengths == 7).all() and whole.lengths.min() > 7
    for one, other in zip(cut, whole, strict=True):
        np.testing.assert_allclose(one.weights, other.weights[:7], rtol=1e-5, atol=TOLERANCE)


def test_a_family_of_sparse_vectors_says_what_it_is(own_server, capsys):
    for url in (own_server.grpc_url, own_server.http_url):
        with Client(url, model="distilbert") as client:
            info = client.info()
            assert (info.splade, info.dimension, info.pooling, info.labels) == ("sum relu", len(VOCABULARY), "", ())
            assert info.identity and client.is_ready() and client.count_tokens("the fox") > 2
            for ask in (
                lambda: client.encode("a"),
                lambda: client.encode_tokens("a"),
                lambda: client.score(("a", "b")),
            ):
                with pytest.raises(
                    InvalidArgument, match="'distilbert' at .* gives sparse vectors .encode_sparse., and"
                ):
                    ask()
            with pytest.raises(InvalidArgument, match="gives sparse vectors .encode_sparse., not scores of labels"):
                client.classify("a")
        assert main(["health", "--url", url, "--model", "distilbert"]) == 0
        assert "gave weights of" in capsys.readouterr().out
        assert main(["info", "--url", url, "--model", "distilbert"]) == 0
        assert '"splade": "sum relu"' in capsys.readouterr().out


def test_a_family_of_dense_vectors_says_that_it_has_no_sparse_ones(server):
    with (
        Client(server.grpc_url) as client,
        pytest.raises(InvalidArgument, match="gives vectors .*, not sparse"),
    ):
        client.encode_sparse(["a"])


@pytest.mark.parametrize("is_plain", [True, False], ids=["json", "orjson"])
def test_the_command_line_writes_what_the_client_gets(own_server, tmp_path, monkeypatch, is_plain):
    if is_plain:
        monkeypatch.setitem(sys.modules, "orjson", None)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS[:7]), encoding="utf-8")
    for url in (own_server.grpc_url, own_server.http_url):
        arguments = ["encode", str(tmp_path / "texts.txt"), "-o", str(tmp_path / "words.jsonl"), "--kind", "sparse"]
        assert main([*arguments, "--max-active-dims", "9", "--model", "bert", "--url", url]) == 0
        with Client(url, model="bert") as client:
            expected = client.encode_sparse(TEXTS[:7], max_active_dims=9)
        found = [json.loads(line) for line in (tmp_path / "words.jsonl").read_text().splitlines()]
        assert [line["text"] for line in found] == TEXTS[:7]
        for line, vector in zip(found, expected, strict=True):
            assert line["indices"] == vector.indices.tolist()
            np.testing.assert_allclose(line["weights"], vector.weights, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--kind", "sparse", "--pooling", "cls"],
            "--pooling is for dense vectors: leave it out, or give --kind dense",
        ),
        (["--kind", "sparse", "--no-normalize"], "--normalize is for dense vectors"),
        (["--kind", "dense", "--max-active-dims", "3"], "--max-active-dims is for sparse vectors"),
        (["--kind", "sparse", "-o", "words.npy"], "words.npy"),
        ([], "gives sparse vectors .encode_sparse., and nothing else"),
    ],
)
def test_what_the_command_line_cannot_do_for_a_family_is_named(own_server, tmp_path, capsys, options, message):
    (tmp_path / "texts.txt").write_text("a text")
    code = main(["encode", str(tmp_path / "texts.txt"), *options, "--model", "bert", "--url", own_server.grpc_url])
    assert code in (1, 2) and re.search(message, capsys.readouterr().err)


def test_sparse_vectors_of_a_family_of_dense_ones_are_none(server, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("a text")
    assert main(["encode", str(tmp_path / "texts.txt"), "--kind", "sparse", "--url", server.grpc_url]) == 2
    assert "gives vectors (encode, encode_tokens), not sparse vectors" in capsys.readouterr().err
