from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import tritonclient.grpc as triton

from client_sdk import LocalServer
from tests.conftest import fill
from tests.support.checkpoints import colbert
from tests.support.checkpoints.architectures import CLASSIFIERS, MASKED_LMS, write_classifier, write_masked_lm
from tests.support.checkpoints.folders import VOCABULARY, write_tokenizer
from tests.support.servers.triton_requests import infer


class Ask(Protocol):
    """ask(model, outputs, texts, **parameters): the outputs for TEXT, a list of bytes, str or tuples of them."""

    def __call__(self, model: str, outputs: str, texts: list[Any], **parameters: Any) -> Any: ...


@pytest.fixture(scope="module")
def grpc_client(server: LocalServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc_url.removeprefix("grpc://")) as client:
        yield client


@pytest.fixture(scope="module")
def ask(grpc_client: triton.InferenceServerClient) -> Ask:
    def ask(model: str, outputs: str, texts: list[Any], **parameters: Any) -> Any:
        rows = [text if isinstance(text, tuple) else (text,) for text in texts]
        array = np.array([[t.encode() if isinstance(t, str) else t for t in row] for row in rows], object)
        found = infer(grpc_client, model, {"TEXT": array}, outputs.split(), parameters)
        return found.get(outputs, found)

    return ask


@pytest.fixture(scope="session")
def live(request: pytest.FixtureRequest) -> bool:
    """Whether what is compared with is computed by the libraries themselves."""
    return bool(request.config.getoption("--live"))


@pytest.fixture(scope="session")
def kinds_repository(bert_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family of each kind: `bert`, all-MiniLM-L6-v2; `reranker`, `splade` and `colbert`, a cross-encoder, sparse
    vectors and vectors for late interaction, of random weights.
    """
    repository, folder = tmp_path_factory.mktemp("kinds"), tmp_path_factory.mktemp("reranker")
    shutil.copytree(bert_repository, repository, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    settings = {**CLASSIFIERS["bert"], "vocab_size": len(VOCABULARY), "id2label": {"0": "fits"}}
    write_classifier(folder, {**settings, "architectures": ["BertForSequenceClassification"]}, "bert.")
    write_tokenizer(folder, VOCABULARY)
    fill(repository, folder, "reranker")
    folder = tmp_path_factory.mktemp("splade")
    settings = {**MASKED_LMS["bert"][0], "vocab_size": len(VOCABULARY), "architectures": ["BertForMaskedLM"]}
    write_masked_lm(folder, settings, "bert.")
    write_tokenizer(folder, VOCABULARY)
    fill(repository, folder, "splade", head="splade")
    folder = tmp_path_factory.mktemp("colbert")
    colbert.write(folder)
    fill(repository, folder, "colbert")
    return repository


@pytest.fixture(scope="module")
def kinds_server(kinds_repository: Path) -> Iterator[LocalServer]:
    """Serves it."""
    with LocalServer(kinds_repository) as running:
        yield running
