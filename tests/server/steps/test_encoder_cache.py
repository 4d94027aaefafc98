"""A family with a cache answers what one without answers, whatever is asked; what is there is not computed again."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sdk import Client, LocalServer
from tests.conftest import fill
from tests.support.patience import settled, wait_for

TEXTS = ["hello", "a text", "hello world", "a longer text about the world", "hello"]
CALLS: list[dict[str, Any]] = [
    {},
    {"pooling": "mean"},
    {"pooling": "max+cls"},
    {"normalize": False},
    {"truncate_dim": 4},
    {"prompt_name": "query"},
    {"prompt": "about: "},
    {"max_seq_len": 4},
    {"mask_cls_sep": True},
]


@pytest.fixture(scope="module")
def cache_server(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Serves the same checkpoint twice: `kept` with a cache, `plain` without."""
    repository = tmp_path_factory.mktemp("cache")
    fill(repository, small_checkpoint, "kept", cache_bytes=1 << 20)
    fill(repository, small_checkpoint, "plain")
    with LocalServer(repository) as running:
        yield running


def counted(server: LocalServer, metric: str) -> int:
    """What a counter of `kept` says once it is told."""

    def read() -> int:
        with urllib.request.urlopen(server.metrics_url) as answer:
            text = answer.read().decode()
        found = re.search(rf'^{metric}{{model="kept"}} ([0-9.e+]+)', text, re.MULTILINE)
        assert found, metric
        return round(float(found[1]))

    return settled(read)


def test_answers_are_those_of_a_family_without_a_cache_the_first_time_and_again(cache_server: LocalServer):
    with Client(cache_server.grpc_url, "kept") as kept, Client(cache_server.grpc_url, "plain") as plain:
        for options in [*CALLS, *CALLS]:
            expected = plain.encode(TEXTS, **options)
            np.testing.assert_allclose(kept.encode(TEXTS, **options), expected, atol=1e-6, err_msg=str(options))
        for found, expected in zip(kept.encode_tokens(TEXTS), plain.encode_tokens(TEXTS), strict=True):
            assert found.tokens == expected.tokens
            np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)


def test_a_text_that_comes_again_is_not_computed_again_whatever_is_asked_of_its_vector(cache_server: LocalServer):
    with Client(cache_server.grpc_url, "kept") as kept:
        kept.encode(["a text of this test", "hello"])
        tokens, hits = (counted(cache_server, name) for name in ("bert_tokens_total", "bert_cache_hit_texts_total"))
        kept.encode("a text of this test", pooling="mean")
        kept.encode(["hello", "a text of this test"], truncate_dim=2)
        wait_for(lambda: counted(cache_server, "bert_cache_hit_texts_total") == hits + 3)
        assert counted(cache_server, "bert_tokens_total") == tokens
        kept.encode(["hello", "a text that is new"])
        wait_for(lambda: counted(cache_server, "bert_cache_hit_texts_total") == hits + 4)
        assert counted(cache_server, "bert_tokens_total") > tokens
        assert counted(cache_server, "bert_cache_miss_texts_total") > 0
