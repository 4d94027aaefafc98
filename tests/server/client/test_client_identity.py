"""One call gets the vectors of one model, whatever happens to the servers; and what they said of it is asked again."""

import asyncio
import contextlib
import io
import json
import socket

import numpy as np
import pytest

from client_sdk import AsyncClient, Client, LocalServer, VersionChanged
from client_sdk._commands.main import main
from client_sdk._transport.known import KnownModel
from client_sdk.bert_as_service._client import BertClient
from tests.support.patience import wait_for
from tests.support.servers.identified_model import make_identified
from tests.support.servers.local_servers import free_ports, kill_server_of

A, B = "a" * 32, "b" * 32


@pytest.fixture(scope="module")
def server_a(tmp_path_factory):
    with LocalServer(make_identified(tmp_path_factory.mktemp("a"), A, (1.0, 1.0))) as running:
        yield running


@pytest.fixture(scope="module")
def server_b(tmp_path_factory):
    with LocalServer(make_identified(tmp_path_factory.mktemp("b"), B, (2.0, 2.0), max_batch_size=8)) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def scheme(request):
    return request.param


def url_of(server, scheme):
    return server.grpc_url if scheme == "grpc" else server.http_url


class Replaceable:
    """A place where one server follows another."""

    def __init__(self, folder):
        self._folder = folder
        http_port, grpc_port, metrics_port = free_ports()
        self._ports = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
        self._running = contextlib.ExitStack()
        self.urls = {"grpc": f"grpc://127.0.0.1:{grpc_port}", "http": f"http://127.0.0.1:{http_port}"}

    def start(self, identity, vector, **options):
        self.stop()
        repository = make_identified(self._folder / str(identity), identity, vector, **options)
        self._running.enter_context(LocalServer(repository, **self._ports))
        self._running.callback(kill_server_of, repository)  # which takes no time, where stopping takes seconds

    def stop(self):
        self._running.close()
        wait_for(lambda: all(map(is_free, self._ports.values())))  # what was killed may hold them a little longer


def is_free(port):
    """Whether a server can listen there."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.fixture
def place(tmp_path):
    place = Replaceable(tmp_path)
    yield place
    place.stop()


def encode(client, texts):
    return client.encode(texts, batch_size=16)


def encode_tokens(client, texts):
    return np.array([item.vectors[0] for item in client.encode_tokens(texts, batch_size=16)])


def count_tokens(client, texts):
    return client.count_tokens(texts, batch_size=16)


def asynchronously(client, texts):
    async def call():
        async with AsyncClient(client._session.settings.url) as other:
            return await other.encode(texts, batch_size=16)

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("call", "vector"),
    [
        (encode, (2.0, 2.0)),
        (encode, (2.0, 2.0, 2.0)),
        (encode_tokens, (2.0, 2.0, 2.0)),
        (count_tokens, (2.0, 2.0)),
        (asynchronously, (2.0, 2.0)),
    ],
)
def test_a_model_that_is_replaced_under_the_same_version_in_the_middle_of_a_call_does_not_mix(
    place, scheme, call, vector
):
    place.start(A, (1.0, 1.0))

    def texts():
        yield from ["text"] * 5000
        place.start(B, vector)
        yield from ["text"] * 3000

    with Client(place.urls[scheme]) as client:
        with pytest.raises(VersionChanged, match=f"replaced during the call: {A} answered first.* has {B}.*call again"):
            call(client, texts())
        assert len(call(client, ["text"] * 100)) == 100, "the next call goes on with the new one"


@pytest.mark.parametrize("other", [A, B, None])
def test_a_client_lives_on_with_whatever_its_server_has_next(place, scheme, other):
    place.start(A, (1.0,))
    with Client(place.urls[scheme]) as client:
        assert client.encode(["text"] * 100)[0] == [1.0]
        place.start(other, (3.0,), max_batch_size=8)
        for _ in range(3):
            assert client.encode(["text"] * 100, batch_size=64)[:, 0].tolist() == [3.0] * 100
        assert client.encode("text").tolist() == [3.0]


def test_a_single_text_of_a_client_that_knows_another_model_is_served(place, scheme):
    place.start(A, (1.0,))
    with Client(place.urls[scheme]) as client:
        client.encode(["one", "two"])
        place.start(B, (3.0,))
        assert client.encode("text").tolist() == [3.0]


def test_a_pool_of_two_models_answers_each_call_with_one_of_them(server_a, server_b, scheme):
    urls = [url_of(server, scheme) for server in (server_a, server_b)]
    for order in (urls, urls[::-1]):
        with Client(order) as client:
            for _ in range(4):
                vectors = client.encode(["text"] * 1000, batch_size=16)
                assert len({tuple(vector) for vector in vectors.tolist()}) == 1
                items = client.encode_tokens(["text"] * 200, batch_size=16)
                assert len({tuple(item.vectors[0]) for item in items}) == 1


async def test_a_pool_of_two_models_answers_an_asynchronous_call_with_one_of_them(server_a, server_b, scheme):
    async with AsyncClient([url_of(server, scheme) for server in (server_a, server_b)]) as client:
        for _ in range(4):
            vectors = await client.encode(["text"] * 1000, batch_size=16)
            assert len({tuple(vector) for vector in vectors.tolist()}) == 1


def test_an_error_names_every_server_and_what_it_has(place, tmp_path, scheme):
    other = Replaceable(tmp_path / "other")
    place.start(A, (1.0,))
    other.start(A, (1.0,))

    def texts():
        yield from ["text"] * 5000
        place.start(B, (2.0,))
        other.start("c" * 32, (3.0,))
        yield from ["text"] * 3000

    expected = f"{place.urls[scheme]} has {B}, {other.urls[scheme]} has c"
    with (
        contextlib.closing(other._running),
        Client([place.urls[scheme], other.urls[scheme]]) as client,
        pytest.raises(VersionChanged, match=expected),
    ):
        client.encode(texts())


def test_servers_of_unlike_limits_take_one_call_together(tmp_path, server_a, scheme):
    with LocalServer(make_identified(tmp_path, A, (1.0, 1.0), max_batch_size=8)) as small:
        for urls in (
            [url_of(server_a, scheme), url_of(small, scheme)],
            [url_of(small, scheme), url_of(server_a, scheme)],
        ):
            with Client(urls) as client:
                assert client.encode(["text"] * 1000, batch_size=64).shape == (1000, 2)


def test_a_batch_that_is_too_large_for_what_the_server_has_become_is_cut_in_the_middle_of_a_call(place, scheme):
    place.start(A, (1.0,))

    def texts():
        yield from ["text"] * 5000
        place.start(A, (1.0,), max_batch_size=8)
        yield from ["text"] * 3000

    with Client(place.urls[scheme]) as client:
        assert client.encode(texts(), batch_size=64).shape == (8000, 1)


def test_the_command_line_does_not_mix_two_models_in_one_file(place, scheme, tmp_path, capsys, monkeypatch):
    class Lines(io.BytesIO):
        """Standard input, in the middle of which the model is replaced."""

        def readline(self, size=-1):
            if self.tell() == 25_000:
                place.start(B, (2.0,))
            return super().readline(size)

    place.start(A, (1.0,))
    output = tmp_path / "out.jsonl"
    command = ["encode", "-", "--url", place.urls[scheme], "-o", str(output)]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Lines(b"text\n" * 9000)))
    assert main(command) == 1
    assert "replaced during the call" in capsys.readouterr().err and not output.exists()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"text\n" * 5000)))
    assert main(command) == 0
    vectors = [json.loads(line)["vector"] for line in output.read_text().splitlines()]
    assert len(vectors) == 5000 and len({tuple(vector) for vector in vectors}) == 1


def test_bert_client_sends_the_identity_too(place):
    place.start(A, (1.0,))
    with BertClient("127.0.0.1", int(place.urls["grpc"].rpartition(":")[2]), ignore_all_checks=True) as client:
        assert client.encode(["one", "two"]).tolist() == [[1.0], [1.0]]
        place.start(B, (2.0,))
        client._session.open().peer._models.update(known_before(A))
        assert client.encode(["one"]).tolist() == [[2.0]], "what had changed was noticed, and asked again"


def known_before(identity):
    return {"bert": KnownModel(64, {"1": identity})}
