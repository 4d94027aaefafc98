"""One of two servers is stopped like a machine that hangs: it accepts, and never answers."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time

import pytest

from client_sdk import AsyncClient, Client, DeadlineExceeded, LocalServer
from client_sdk._call.questions import served
from client_sdk._transport.retry import Deadline
from tests.support.servers.identified_model import make_identified
from tests.support.servers.local_servers import tritonserver_of, wait_for


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two servers of one model, the second's repository."""
    folders = [make_identified(tmp_path_factory.mktemp(name), "a" * 32) for name in ("one", "other")]
    with LocalServer(folders[0]) as one, LocalServer(folders[1]) as other:
        yield one, other, folders[1]


@pytest.fixture(params=["grpc", "http"])
def urls(request, pair):
    return [server.grpc_url if request.param == "grpc" else server.http_url for server in pair[:2]]


@contextlib.contextmanager
def frozen(repository):
    pid = tritonserver_of(repository)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_frozen_server_fails_no_call_and_is_taken_back(pair, urls):
    _, other, repository = pair
    with Client(urls, timeout=20) as client:
        for _ in range(4):
            client.encode("warm")
        with frozen(repository):
            for _ in range(12):
                assert client.encode("text").tolist() == [1.0]
            assert client.encode(["text"] * 500, batch_size=8).shape == (500, 1)
            assert client.is_ready()
        with Client(other.grpc_url) as direct:
            wait_for(lambda: direct.encode("is it back?") is not None)
            before = direct._session.ask(served("bert"), Deadline(10)).requests

            def has_its_share():
                client.encode(["text"] * 100, batch_size=8)
                return direct._session.ask(served("bert"), Deadline(10)).requests > before

            wait_for(has_its_share, 60)


def test_a_server_that_freezes_in_the_middle_of_a_bulk_call_loses_nothing(pair, urls):
    repository = pair[2]

    def texts(stack):
        yield from ["text"] * 5000
        stack.enter_context(frozen(repository))
        yield from ["text"] * 5000

    with Client(urls, timeout=60) as client, contextlib.ExitStack() as stack:
        assert client.encode(texts(stack), batch_size=16).shape == (10_000, 1)


def test_a_frozen_server_fails_no_asynchronous_call(pair, urls):
    async def calls():
        async with AsyncClient(urls, timeout=20) as client:
            for _ in range(4):
                await client.encode("warm")
            with frozen(pair[2]):
                for _ in range(6):
                    await client.encode("text")
                assert (await client.encode(["text"] * 500, batch_size=8)).shape == (500, 1)
                assert await client.is_ready()

    asyncio.run(calls())


def test_a_server_that_is_slow_and_lives_is_waited_for(pair, urls):
    with Client(urls, timeout=30) as client:
        before = [client._session.open().peer._members[i].failures for i in range(2)]
        assert client.encode("sleep 4").tolist() == [1.0]
        assert [client._session.open().peer._members[i].failures for i in range(2)] == before


def test_if_both_are_frozen_it_is_the_deadline_that_ends_a_call(pair, urls, tmp_path):
    folders = [make_identified(tmp_path / name, "a" * 32) for name in ("one", "other")]
    with LocalServer(folders[0]) as one, LocalServer(folders[1]) as other:
        grpc = urls[0].startswith("grpc")
        with Client([s.grpc_url if grpc else s.http_url for s in (one, other)], timeout=4) as client:
            for _ in range(4):
                client.encode("warm")
            with frozen(folders[0]), frozen(folders[1]):
                started = time.monotonic()
                with pytest.raises(DeadlineExceeded, match="timeout of 4 s passed"):
                    client.encode("text")
                assert time.monotonic() - started >= 3.9


class Line:
    """Passes on what it hears, until it is cut: what was connected before hears nothing any more, not even the end."""

    def __init__(self, port):
        self._port = port
        self._cut = threading.Event()
        self._open = contextlib.ExitStack()
        self._listening = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        self._cut.set()
        self._cut = threading.Event()

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._open.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                ends = self._listening.accept()[0], socket.create_connection(("127.0.0.1", self._port))
                for source, target in (ends, ends[::-1]):
                    self._open.enter_context(source)
                    threading.Thread(target=self._copy, args=(source, target, self._cut), daemon=True).start()

    def _copy(self, source, target, cut):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not cut.is_set():
                    target.sendall(data)
            if not cut.is_set():
                target.shutdown(socket.SHUT_WR)


def test_over_grpc_a_connection_that_fell_silent_is_made_anew_within_a_call(pair):
    line = Line(int(pair[0].grpc_url.rpartition(":")[2]))
    with contextlib.closing(line), Client(f"grpc://127.0.0.1:{line.port}") as client:
        assert client.encode("text").tolist() == [1.0]
        line.cut()
        assert client.encode("text").tolist() == [1.0]
