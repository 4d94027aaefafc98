from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import tritonclient.grpc as triton

from client_sdk import LocalServer
from tests.conftest import fill
from tests.support.checkpoints import m3
from tests.support.servers.local_servers import server_for_many_tests
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
def m3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint as BGE-M3's."""
    folder = tmp_path_factory.mktemp("m3")
    m3.write(folder)
    return folder


@pytest.fixture(scope="session")
def m3_server(m3_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server of `m3`, a family of all kinds of vectors, and of `kept`, of its dense ones alone, which are kept."""
    repository = tmp_path_factory.mktemp("m3_models")
    fill(repository, m3_folder, "m3")
    fill(repository, m3_folder, "kept", cache_bytes=1 << 20, encoder_only=True)
    with server_for_many_tests(repository) as running:
        yield running


@pytest.fixture(scope="session")
def kinds_server(gateway_server: LocalServer) -> LocalServer:
    """A server of a family of each kind."""
    return gateway_server
