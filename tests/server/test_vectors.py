"""The numbers: what the server gives is what sentence-transformers and transformers give for the same texts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from client_sdk import AsyncClient, Client, LocalServer
from tests.support.reference import POOLED, TOKENS, pairs

SENTENCE = 1e-5
TOKEN = 1e-4

POOLINGS = ["mean", "max", "cls", "last", "pooler"]


@pytest.fixture(params=["grpc", "http"])
def url(request: pytest.FixtureRequest, server: LocalServer) -> str:
    return server.grpc_url if request.param == "grpc" else server.http_url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def near(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert found.shape == expected.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("batch_size", [64, 7])
def test_batches_equal_sentence_transformers(client, texts, expected, batch_size):
    near(client.encode(texts, batch_size=batch_size), expected["sentence"], SENTENCE)


def test_one_by_one_equals_sentence_transformers(client, texts, expected):
    near(np.stack([client.encode(text) for text in texts]), expected["sentence"], SENTENCE)


def test_16_threads_at_once_equal_sentence_transformers(client, texts, expected):
    with ThreadPoolExecutor(16) as pool:
        vectors = list(pool.map(client.encode, texts))
    near(np.stack(vectors), expected["sentence"], SENTENCE)


async def test_async_equals_sentence_transformers(url, texts, expected):
    async with AsyncClient(url) as client:
        near(await client.encode(texts), expected["sentence"], SENTENCE)
        alone = await asyncio.gather(*(client.encode(text) for text in texts[:100]))
        near(np.stack(alone), expected["sentence"][:100], SENTENCE)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_equals_transformers(client, texts, expected, pooling):
    near(client.encode(texts[:POOLED], pooling=pooling, normalize=False), expected[pooling], TOKEN)


def test_mean_max_is_both(client, texts, expected):
    both = np.concatenate([expected["mean"], expected["max"]], axis=1)
    near(client.encode(texts[:POOLED], pooling="mean_max", normalize=False), both, TOKEN)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pairs_equal_transformers(client, expected, pooling):
    near(client.encode(pairs(), pooling=pooling, normalize=False), expected[f"pair_{pooling}"], TOKEN)


def test_token_vectors_equal_transformers(client, texts, expected):
    items = client.encode_tokens(texts[:TOKENS])
    assert [len(item.tokens) for item in items] == [len(item.vectors) for item in items]
    near(np.concatenate([item.vectors for item in items]), expected["tokens"], TOKEN)


async def test_async_token_vectors_equal_transformers(url, texts, expected):
    async with AsyncClient(url) as client:
        items = await client.encode_tokens(texts[:TOKENS])
    near(np.concatenate([item.vectors for item in items]), expected["tokens"], TOKEN)


def test_truncate_dim_cuts_and_then_normalizes(client, texts, expected):
    cut = expected["mean"][:, :16]
    near(
        client.encode(texts[:POOLED], truncate_dim=16),
        cut / np.linalg.norm(cut, axis=1, keepdims=True),
        SENTENCE,
    )
