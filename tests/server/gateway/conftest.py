from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from client_sdk import Client, LocalServer


@pytest.fixture(scope="session")
def client_of(gateway_server: LocalServer) -> Iterator[Callable[[str], Client]]:
    """This project's client for a family, which says what is right."""
    with ExitStack() as stack:
        made: dict[str, Client] = {}

        def client_of(model: str) -> Client:
            if model not in made:
                made[model] = stack.enter_context(Client(gateway_server.grpc_url, model))
            return made[model]

        yield client_of
