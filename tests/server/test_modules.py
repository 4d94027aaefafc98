"""The modules of sentence-transformers behind a network, on a real server, beside what they do there.

With --live, that is SentenceTransformer of the same folder; else the plain form of it in tests/support.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton

import client_sdk
from client_sdk import AsyncClient, Client, InvalidArgument, LocalServer
from tests.conftest import fill
from tests.support.checkpoints import modules
from tests.support.servers.triton_requests import infer

TEXTS = ["the lazy dog jumped over", "a", "Hello, WORLD!", "the quick brown fox " * 12, "cafe 中文 #1", "fox " * 30]
POOLED, BEHIND_DENSE = 1e-5, 1e-4
Theirs = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    for name in modules.FOLDERS:
        modules.write(folder / name, name)
    return folder


@pytest.fixture(scope="module")
def own_server(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    repository = tmp_path_factory.mktemp("repository")
    for name in modules.FOLDERS:
        fill(repository, folders / name, name)
    with LocalServer(repository) as server:
        yield server


@pytest.fixture(scope="module")
def theirs(live: bool, folders: Path) -> Theirs:
    """theirs(name, modes=None, prompt=""): the vectors of TEXTS; with modes, of these poolings and nothing behind."""
    if not live:
        return lambda name, modes=None, prompt="": modules.encode(folders / name, TEXTS, modes, prompt)

    def encode(name: str, modes: Sequence[str] | None = None, prompt: str = "") -> np.ndarray:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folders / name), device="cpu")
        if modes:
            model[1].pooling_mode = tuple(modes)
            model = SentenceTransformer(modules=[model[0], model[1]], device="cpu")
        return model.encode(TEXTS, prompt=prompt or None)

    return encode


@pytest.mark.parametrize("name", modules.FOLDERS)
def test_vectors_are_those_of_the_folder(own_server, theirs, name):
    with Client(own_server.grpc_url, model=name) as client:
        found = client.encode(TEXTS)
        assert client.info().dimension == found.shape[1]
    expected = theirs(name)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=BEHIND_DENSE if name in ("stages", "middle") else POOLED)


@pytest.mark.parametrize("modes", [*([mode] for mode in modules.MODES), ["cls", "weightedmean"], ["mean", "max"]])
def test_a_request_may_choose_each_pooling_and_several(own_server, theirs, modes):
    for url in (own_server.grpc_url, own_server.http_url):
        with Client(url, model="all") as client:
            found = client.encode(TEXTS, pooling="+".join(modes))
        np.testing.assert_allclose(found, theirs("all", modes), rtol=0, atol=POOLED)


def test_names_for_the_same_pooling_give_the_same(own_server):
    with Client(own_server.grpc_url, model="all") as client:
        for one, other in (("last", "lasttoken"), ("mean_max", "mean+max"), ("cls+mean_max", "cls+mean+max")):
            np.testing.assert_array_equal(client.encode(TEXTS, pooling=one), client.encode(TEXTS, pooling=other))
    with Client(own_server.grpc_url, model="middle") as client:  # modules follow the pooling, whatever its name is
        np.testing.assert_array_equal(client.encode(TEXTS, pooling="cls+max"), client.encode(TEXTS))
        assert client.encode(TEXTS, pooling="max+cls").shape == (len(TEXTS), 64)


@pytest.mark.parametrize(
    ("name", "pooling", "known"),
    [
        ("middle", "weightedmean", "mean, max, mean_max, cls, last, lasttoken, and several"),
        ("stages", "mean+mean", "mean, max, mean_max, cls, last, lasttoken, mean_sqrt_len_tokens, and several"),
        ("all", "pooler", ", lasttoken, mean_sqrt_len_tokens, weightedmean, and several"),
    ],
)
def test_a_pooling_that_the_network_has_not_is_refused(own_server, name, pooling, known):
    with (
        Client(own_server.grpc_url, model=name) as client,
        pytest.raises(InvalidArgument, match=rf"pooling is {re.escape(repr(pooling))}; this model takes .*{known}"),
    ):
        client.encode("a", pooling=pooling)


def test_a_normalize_in_the_middle_is_no_option_and_the_one_at_the_end_is(own_server, theirs):
    with Client(own_server.grpc_url, model="stages") as client:
        plain = client.encode(TEXTS, normalize=False)
        assert client.info().normalize and not np.allclose(np.linalg.norm(plain, axis=1), 1, atol=0.01)
    unit = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, theirs("stages"), rtol=0, atol=BEHIND_DENSE)
    with Client(own_server.grpc_url, model="middle") as client:
        assert not client.info().normalize
        unit = client.encode(TEXTS, normalize=True)
    expected = theirs("middle")
    np.testing.assert_allclose(
        unit, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=0, atol=BEHIND_DENSE
    )


@pytest.mark.parametrize("family", ["all", "prompts", "stages"])
@pytest.mark.parametrize("name", modules.PROMPTS)
def test_a_prompt_is_pooled_where_the_folder_says_so(own_server, theirs, family, name):
    prompt = modules.PROMPTS[name]
    expected = theirs(family, prompt=prompt)
    for url in (own_server.grpc_url, own_server.http_url):
        with Client(url, model=family) as client:
            assert client.info().prompts == modules.PROMPTS
            for found in (client.encode(TEXTS, prompt_name=name), client.encode(TEXTS, prompt=prompt)):
                np.testing.assert_allclose(found, expected, rtol=0, atol=BEHIND_DENSE if family == "stages" else POOLED)


def test_tokens_of_a_prompt_are_marked_where_they_are_not_pooled(own_server):
    with triton.InferenceServerClient(own_server.grpc_url.removeprefix("grpc://")) as client:

        def mask(family: str, **options: Any) -> list[int]:
            given = {"TEXT": np.array([[b"the fox"]], object)}
            return infer(client, f"{family}_tokenizer", given, ["pooling_mask"], options)["pooling_mask"][0].tolist()

        assert mask("prompts") == mask("prompts", prompt_name="none") == [1, 1, 1, 1]
        assert mask("prompts", prompt="hello ") == [2, 2, 1, 1, 1]
        assert mask("prompts", prompt="hello ", mask_cls_sep=True) == [0, 2, 1, 1, 0]
        assert mask("all", prompt="hello ") == [1, 1, 1, 1, 1]


def test_the_similarity_of_the_folder_is_told(own_server):
    with Client(own_server.grpc_url, model="all") as client:
        assert client.info().similarity == "dot"


async def test_vectors_are_compared_as_the_folder_means_it(own_server):
    for name in modules.FOLDERS:
        with Client(own_server.grpc_url, model=name) as client:
            vectors = client.encode(TEXTS)
            metric = client.info().similarity
            found = client.similarity(vectors[0], vectors)
        np.testing.assert_array_equal(found, client_sdk.similarity(vectors[:1], vectors, metric=metric))
        async with AsyncClient(own_server.http_url, model=name) as client:
            np.testing.assert_array_equal(await client.similarity(vectors[0], vectors), found)
