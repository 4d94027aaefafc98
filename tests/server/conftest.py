from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pytest
import tritonclient.grpc as triton

from client_sdk import LocalServer
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
def kinds_server(gateway_server: LocalServer) -> LocalServer:
    """A server of a family of each kind."""
    return gateway_server
