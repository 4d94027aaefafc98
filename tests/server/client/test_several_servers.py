"""A client of several servers, one of which is killed, and comes back, in the middle of bulk calls."""

import asyncio
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from client_sdk import AsyncClient, Client, LocalServer, ModelNotFound, ServerUnreachable
from client_sdk._call.questions import served
from client_sdk._transport.retry import Deadline
from tests.support.patience import PATIENCE
from tests.support.servers.local_servers import free_ports, tritonserver_of, wait_for

NOBODY = "127.0.0.1:1"


@pytest.fixture
def mortal(repository, tmp_path):
    """A second server of `bert`, which a test may kill: (start, its repository)."""
    for model in repository.glob("bert*"):
        shutil.copytree(model, tmp_path / model.name, ignore=shutil.ignore_patterns("__pycache__"))
    http_port, grpc_port, metrics_port = free_ports()

    def start():
        return LocalServer(tmp_path, http_port=http_port, grpc_port=grpc_port, metrics_port=metrics_port)

    return start, tmp_path


def requests_to(server):
    with Client(server.grpc_url) as client:
        return client._session.ask(served("bert"), Deadline(10)).requests


def urls(one, other):
    return f"{one.grpc_url},{other.grpc_url}", [one.http_url, other.http_url]


def blocking(url, texts):
    with Client(url, timeout=PATIENCE) as client:
        return client.encode(texts, batch_size=8)


def asynchronous(url, texts):
    async def call():
        async with AsyncClient(url, timeout=PATIENCE) as client:
            return await client.encode(iter(texts), batch_size=8)

    return asyncio.run(call())


def test_nothing_is_lost_when_one_of_two_servers_is_killed_in_the_middle(server, mortal, texts, expected):
    start, its_repository = mortal
    with start() as other, ThreadPoolExecutor() as pool:
        calls = [pool.submit(call, url, texts) for url in urls(server, other) for call in (blocking, asynchronous)]
        wait_for(lambda: min(requests_to(other), requests_to(server)) >= 20)  # both have had their share
        os.kill(tritonserver_of(its_repository), signal.SIGKILL)
        assert not any(call.done() for call in calls)
        for call in calls:
            np.testing.assert_allclose(call.result(), expected["sentence"], rtol=0, atol=1e-5)


def test_a_server_that_is_back_is_used_again(server, mortal):
    start, _ = mortal
    with start() as other:
        url = urls(server, other)[0]
    with Client(url) as client:
        assert client.is_ready()
        client.encode(["while it is away"] * 100, batch_size=8)
        with start() as other:
            wait_for(lambda: client.encode("is it back?") is not None and requests_to(other) > 0)


def test_a_dead_address_beside_a_good_one_costs_nothing(server):
    for url in (f"{NOBODY},{server.grpc_url}", [server.http_url, f"http://{NOBODY}"]):
        with Client(url, timeout=10 * PATIENCE) as client:
            started = time.monotonic()
            assert client.encode(["First do it"] * 200, batch_size=8).shape == (200, 384)
            assert client.count_tokens("First do it") == 5
            assert client.info().dimension == 384 and client.is_ready()
            assert time.monotonic() - started < PATIENCE


async def test_a_dead_address_beside_a_good_one_costs_the_asynchronous_client_nothing(server):
    async with AsyncClient([NOBODY, server.grpc_url]) as client:
        assert await client.is_ready()
        assert (await client.encode(["First do it"] * 200, batch_size=8)).shape == (200, 384)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_an_error_names_every_address_when_none_is_there(scheme):
    addresses = [f"{scheme}://127.0.0.1:1", f"{scheme}://127.0.0.1:2"]
    with Client(addresses, timeout=10 * PATIENCE) as client:
        for texts in ("text", ["text"] * 100):
            started = time.monotonic()
            with pytest.raises(ServerUnreachable, match=f"cannot reach {addresses[0]}.*; cannot reach {addresses[1]}"):
                client.encode(texts)
            assert time.monotonic() - started < PATIENCE
        assert not client.is_ready()


def test_the_environment_may_name_several(server, monkeypatch):
    monkeypatch.setenv("CLIENT_SDK_URL", f"{server.grpc_url},{NOBODY}")
    with Client() as client:
        assert repr(client) == f"Client('{server.grpc_url},grpc://{NOBODY}', model='bert')"
        assert client.encode("First do it").shape == (384,)


def test_a_missing_model_is_named_with_those_of_every_server(server, upper_repository):
    def asynchronously(url):
        async def call():
            async with AsyncClient(url, "nope") as client:
                await client.encode("a")

        asyncio.run(call())

    with LocalServer(upper_repository) as other:
        for one, two in ((server, other), (other, server)):
            for url in urls(one, two):
                for call in (Client(url, "nope").encode, lambda _, url=url: asynchronously(url)):
                    with pytest.raises(ModelNotFound, match="no model 'nope' at .*; there: bert, layers, small"):
                        call("a")
