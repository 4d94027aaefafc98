"""Two versions of a model, served side by side, and one that replaces the other in the middle of a call."""

import contextlib
import shutil

import pytest

from client_sdk import AsyncClient, Client, InvalidArgument, LocalServer, ModelNotFound, VersionChanged
from tests.support.patience import PATIENCE
from tests.support.servers.local_servers import free_ports
from tests.support.servers.moody_model import make_moody_repository


def make_versions(folder, *versions):
    """The moody repository, with these versions of its model."""
    repository = make_moody_repository(folder)
    for version in versions:
        if version != 1:
            shutil.copytree(repository / "bert" / "1", repository / "bert" / str(version))
    with (repository / "bert" / "config.pbtxt").open("a") as config:
        config.write("version_policy { all { } }\n")
    if 1 not in versions:
        shutil.rmtree(repository / "bert" / "1")
    return repository


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    with LocalServer(make_versions(tmp_path_factory.mktemp("versions"), 1, 2)) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def url(request, both):
    return both.grpc_url if request.param == "grpc" else both.http_url


def version_that_answers(client, **options):
    """The version, as the transport's reply has it."""
    seen = []
    transport = client._session.open()
    infer = transport.infer
    transport.infer = lambda *arguments: seen.append(infer(*arguments)) or seen[-1]
    client.encode("text", **options)
    return seen[0].version


def test_a_version_may_be_chosen_and_the_highest_is_the_default(url):
    with Client(url) as client:
        assert version_that_answers(client) == "2"
    for version in (1, 2):
        with Client(url) as client:
            assert version_that_answers(client, model_version=version) == str(version)
            assert client.encode(["text"] * 100, model_version=version).shape == (100, 1)


async def test_a_version_that_is_not_served_is_named_with_those_that_are(url):
    message = "no version 7 of model 'bert' at .*; there: 1, 2"
    with Client(url) as client:
        for texts in ("text", ["text"] * 100):
            with pytest.raises(ModelNotFound, match=message):
                client.encode(texts, model_version=7)
        with pytest.raises(InvalidArgument, match="model_version must be at least 1"):
            client.encode("text", model_version=0)
    async with AsyncClient(url) as client:
        with pytest.raises(ModelNotFound, match=message):
            await client.encode("text", model_version=7)


def test_servers_of_two_versions_do_not_mix_in_one_call(both, tmp_path):
    with LocalServer(make_versions(tmp_path, 1)) as old, Client([both.grpc_url, old.grpc_url]) as client:
        with pytest.raises(VersionChanged, match="versions [12] and [12] of model 'bert'"):
            client.encode(["text"] * 200, batch_size=8)
        assert client.encode(["text"] * 200, batch_size=8, model_version=1).shape == (200, 1)
        # Only one server has it, and the other is passed over.
        assert client.encode(["text"] * 200, batch_size=8, model_version=2).shape == (200, 1)


@pytest.mark.usefixtures("ends_in_order")
def test_a_model_that_is_replaced_in_the_middle_of_a_call_does_not_mix_its_versions(tmp_path):
    http_port, grpc_port, metrics_port = free_ports()
    ports = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    with Client(f"localhost:{grpc_port}", timeout=PATIENCE) as client, contextlib.ExitStack() as running:
        running.enter_context(LocalServer(make_versions(tmp_path / "old", 1), **ports))

        def texts():
            yield from ["text"] * 8192
            running.close()
            running.enter_context(LocalServer(make_versions(tmp_path / "new", 2), **ports))
            yield from ["text"] * 8192

        with pytest.raises(VersionChanged, match="versions 1 and 2 of model 'bert'"):
            client.encode(texts())
