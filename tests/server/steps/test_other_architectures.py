"""Families of other architectures than BERT, served, beside their networks in the other layout, run alone.

What these compute is compared with transformers in tests/unit/export/network/test_architectures.py.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from transformers import AutoTokenizer

from client_sdk import AsyncClient, Client, LocalServer
from client_sdk._call.plan import BATCH_TOKENS
from client_sdk._call.questions import served
from client_sdk._transport.retry import Deadline
from export.checkpoint import checkpoint
from export.network import network
from export.network.batches import padded
from tests.conftest import fill
from tests.support.architecture_vectors import Ids
from tests.support.checkpoints.architectures import VARIANTS, write
from tests.support.patience import PATIENCE, settled
from tests.support.servers.step_requests import body_of, ids_of, post
from tests.support.trained_tokenizers import SIZE, byte_level_bpe, unigram, write_trained

FAMILIES = {
    "positions": ("mpnet", unigram, "XLMRobertaTokenizer"),
    "windows": ("modernbert long", byte_level_bpe, "RobertaTokenizer"),
    "apart": ("deberta-v2 conv", byte_level_bpe, "RobertaTokenizer"),
}
TEXTS = [
    "The quick brown fox jumped over 13 lazy dogs, didn't it?",
    "a",
    "a <pad> in a text <pad>",
    "café naïve Приве́т 中文字",
    "the fox " * 700 + "at the end",
]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, (variant, tokenizer, of_class) in FAMILIES.items():
        write(folder / name, {**VARIANTS[variant], "vocab_size": SIZE})
        write_trained(folder / name, tokenizer(), of_class=of_class)
    return folder


@pytest.fixture(scope="module")
def own_server(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    repository = tmp_path_factory.mktemp("other_architectures")
    for name in FAMILIES:
        fill(repository, checkpoints / name, name)
    with LocalServer(repository) as server:
        yield server


@pytest.fixture(scope="module")
def states(checkpoints: Path) -> Callable[..., list[np.ndarray]]:
    """states(family, texts): the last layer's vectors of AutoTokenizer's tokens, by the padded network."""

    def compute(family: str, *texts: Any) -> list[np.ndarray]:
        source = checkpoint.load(str(checkpoints / family))
        model = network.build(source.encoder, source.weights, is_padded=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        tokenizer = AutoTokenizer.from_pretrained(checkpoints / family)
        ids = tokenizer(*texts, truncation=True, max_length=source.encoder.max_positions)["input_ids"]
        return [session.run(["token_embeddings"], padded([Ids(row)]))[0][0] for row in ids]

    return compute


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_have_the_vectors_of_the_network_alone(own_server, states, family):
    expected = states(family, TEXTS)
    for url in (own_server.grpc_url, own_server.http_url):
        with Client(url, model=family) as client:
            found, tokens = client.encode(TEXTS), client.encode_tokens(TEXTS)
            bulk = client.encode(TEXTS * 20)
        for row, state in enumerate(expected):
            np.testing.assert_allclose(found[row], state.mean(0), rtol=0, atol=TOLERANCE)
            np.testing.assert_allclose(tokens[row].vectors, state, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(bulk, np.tile(found, (20, 1)), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("way", ["grpc", "http", "asynchronous"])
def test_a_call_of_long_texts_is_sent_in_requests_of_the_usual_cost(own_server, way):
    texts = [f"{i} {'the fox ' * 1200}" for i in range(40)]
    url = own_server.http_url if way == "http" else own_server.grpc_url
    with Client(url, model="windows") as client:
        assert client.info().max_seq_len == 1100

        def answered() -> int:  # Triton answers a request, then counts it
            return settled(lambda: client._session.ask(served("windows"), Deadline(PATIENCE)).requests)

        before = answered()
        found = asyncio.run(_encode(url, texts)) if way == "asynchronous" else client.encode(texts)
        assert answered() - before == 2 == math.ceil(40 / (BATCH_TOKENS // 1100))
        np.testing.assert_allclose(found, np.stack([client.encode(text) for text in texts]), rtol=0, atol=TOLERANCE)


async def _encode(url: str, texts: list[str]) -> np.ndarray:
    async with AsyncClient(url, model="windows") as client:
        return await client.encode(texts)


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_have_the_vectors_of_the_network_alone(own_server, states, family):
    first, second = ["the fox", "a short one"], ["dog", "the fox " * 20]
    with Client(own_server.grpc_url, model=family) as client:
        found = client.encode(list(zip(first, second, strict=True)))
    for vector, state in zip(found, states(family, first, second), strict=True):
        np.testing.assert_allclose(vector, state.mean(0), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_with_gaps_are_refused_where_distances_count(own_server, family):
    inputs = ids_of([[5, 6, 7, 8], [5, 6, 7]])
    inputs["attention_mask"][1] = [1, 0, 1, 0]
    status, answer = post(own_server, f"{family}_encoder", body_of(inputs, "pooled"))
    assert status == 400
    assert "attention_mask has a gap in row 1; the network takes rows whose tokens stand side by side" in str(answer)
