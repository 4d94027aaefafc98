"""What a client does when the server is slow, busy, broken, mute or gone."""

import asyncio
import contextlib
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest

from client_sdk import (
    AsyncClient,
    Client,
    ClientError,
    DeadlineExceeded,
    LocalServer,
    ServerBusy,
    ServerError,
    ServerUnreachable,
)
from client_sdk._transport.address import parse_addresses
from client_sdk._transport.base import InferRequest
from client_sdk._transport.connection import Connection
from client_sdk._transport.grpc.transport import GrpcTransport
from tests.support.patience import PATIENCE, taking_at_least
from tests.support.servers.local_servers import ending, free_ports, tritonserver_of, wait_for
from tests.support.servers.moody_model import make_moody_repository


@pytest.fixture(scope="module")
def moody(tmp_path_factory):
    with LocalServer(make_moody_repository(tmp_path_factory.mktemp("moody"))) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def scheme(request):
    return request.param


@pytest.fixture
def url(scheme, moody):
    return moody.grpc_url if scheme == "grpc" else moody.http_url


@pytest.fixture(params=["blocking", "asynchronous"])
def encode(request):
    """Encodes texts with a client of its own: encode(url, texts, **options)."""

    def blocking(url, texts, **options):
        with Client(url) as client:
            return client.encode(texts, **options)

    def asynchronous(url, texts, **options):
        async def call():
            async with AsyncClient(url) as client:
                return await client.encode(texts, **options)

        return asyncio.run(call())

    return blocking if request.param == "blocking" else asynchronous


@pytest.fixture
def never(tmp_path):
    """A text that is not answered before the test is over; `begun(never)` once the server has it."""
    sign = tmp_path / "over"
    yield f"until {sign}"
    sign.touch()


def was_called(listening):
    """Whether a connection waits to be accepted."""
    return bool(select.select([listening], [], [], 0)[0])


def begun(text):
    return os.path.exists(text.removeprefix("until ") + ".begun")


MANY = [f"text {i}" for i in range(100)]


def test_a_slow_answer_is_a_deadline(encode, url, never):
    with taking_at_least(1), pytest.raises(DeadlineExceeded, match="the timeout of 1 s passed") as error:
        encode(url, never, timeout=1)
    assert "did not answer in time" in str(error.value) or not begun(never)


def test_a_deadline_covers_all_of_a_bulk_call(encode, url):
    texts = [f"sleep {i:.2f}" for i in np.linspace(0.2, 0.21, 100)]
    with taking_at_least(1), pytest.raises(TimeoutError, match=r"timeout of 1 s passed.* \d+ of 100 texts were done"):
        encode(url, texts, batch_size=1, timeout=1)


def test_the_clients_own_timeout_holds_where_a_call_has_none(url, never):
    with taking_at_least(0.5), pytest.raises(DeadlineExceeded), Client(url, timeout=0.5) as client:
        client.encode(never)


@pytest.mark.parametrize("texts", ["busy", [*MANY, "busy"]])
def test_a_server_that_stays_busy_is_an_error_when_the_time_is_over(encode, url, texts):
    with (
        taking_at_least(1.5),
        pytest.raises(ServerBusy, match="cannot take the request now: Exceeds maximum queue size"),
    ):
        encode(url, texts, batch_size=8, timeout=2)


def test_a_server_that_is_busy_for_a_while_is_tried_again(encode, url, tmp_path):
    done = tmp_path / "done"
    threading.Timer(0.5, done.touch).start()
    texts = [*MANY, f"busy-until {done}"]
    with taking_at_least(0.5):
        assert encode(url, texts, batch_size=8, timeout=PATIENCE)[:, 0].tolist() == [len(text) for text in texts]


@pytest.mark.parametrize("others", [[], MANY])
def test_a_failing_server_is_not_tried_again(encode, url, others, tmp_path):
    attempts = tmp_path / "attempts"
    broken = f"broken {attempts}"
    with pytest.raises(ServerError, match="failed: the network broke"):
        encode(url, [*others, broken] if others else broken, batch_size=8)
    assert attempts.read_text() == "x"


def test_one_failed_call_leaves_the_others_alone(url):
    with Client(url) as client, ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.encode, ["broken /dev/null" if i % 2 else "fine"] * 20) for i in range(40)]
        for i, call in enumerate(calls):
            if i % 2:
                assert isinstance(call.exception(), ServerError)
            else:
                assert call.result().shape == (20, 1)


def test_a_port_that_accepts_and_never_answers_is_a_deadline(encode, scheme):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"{scheme}://127.0.0.1:{mute.getsockname()[1]}"
        with taking_at_least(1), pytest.raises(DeadlineExceeded, match="the timeout of 1 s passed") as error:
            encode(url, MANY, timeout=1)
        assert "nothing there has answered yet" in str(error.value) or not was_called(mute)


def test_what_answers_but_is_no_triton_is_an_error(encode, scheme):
    def answer_all(listening):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello")

    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=answer_all, args=(other,), daemon=True).start()
        expected = ServerUnreachable if scheme == "grpc" else ServerError
        with taking_at_least(0), pytest.raises(expected, match="not the HTTP one|HTTP status 404: hello"):
            encode(f"{scheme}://127.0.0.1:{other.getsockname()[1]}", "text", timeout=10 * PATIENCE)


def test_a_server_that_is_killed_in_the_middle_is_unreachable(tmp_path, never):
    repository = make_moody_repository(tmp_path / "repository")
    with LocalServer(repository) as server, ThreadPoolExecutor() as pool:
        calls = [
            pool.submit(Client(url).encode, texts, timeout=10)
            for url in (server.grpc_url, server.http_url)
            for texts in (never, [never] * 100)
        ]
        wait_for(lambda: begun(never))
        os.kill(tritonserver_of(repository), signal.SIGKILL)
        for call in calls:
            assert isinstance(call.exception(PATIENCE), ServerUnreachable), call.exception()


def test_a_server_that_is_started_again_is_found_again(tmp_path):
    repository = make_moody_repository(tmp_path / "repository")
    http_port, grpc_port, metrics_port = free_ports()
    ports = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    with Client(f"localhost:{grpc_port}") as grpc, Client(f"http://localhost:{http_port}") as http:
        with LocalServer(repository, **ports):
            for client in (grpc, http):
                assert client.encode(MANY).shape == (100, 1)
        with ThreadPoolExecutor() as pool:
            calls = [pool.submit(client.encode, MANY) for client in (grpc, http)]
            with LocalServer(repository, **ports):
                for call in calls:
                    assert call.result().shape == (100, 1)


def test_what_a_client_gave_up_no_longer_keeps_the_server_busy(url):
    with Client(url) as client:
        with pytest.raises(DeadlineExceeded):
            client.encode(["sleep 1"] * 4000, batch_size=1, timeout=1)
        # Four instances, four requests on their way: the others, of 1,000 s, may not be waiting in front of this one.
        with taking_at_least(0):
            client.encode("text", timeout=10 * PATIENCE)


def test_a_client_that_is_closed_in_the_middle_ends_its_calls(url, never):
    client = Client(url)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(client.encode, [never] * 20, batch_size=1, timeout=10 * PATIENCE)
        wait_for(lambda: begun(never))
        client.close()
        assert isinstance(call.exception(PATIENCE), ClientError)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="it is not known there who has cancelled a task")
async def test_an_asynchronous_client_that_is_closed_in_the_middle_ends_its_calls(url, never):
    client = AsyncClient(url)
    calls = [client.encode(texts, batch_size=1, timeout=10 * PATIENCE) for texts in (never, [never] * 20)]
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.to_thread(wait_for, lambda: begun(never))
    await client.close()
    for found in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE):
        assert isinstance(found, ClientError), found


@pytest.mark.skipif(os.name != "posix", reason="signals are for Unix")
@pytest.mark.parametrize("texts", ["text", "[text] * 100", "(text for _ in range(10_000))"])
def test_ctrl_c_ends_a_call_promptly(url, texts, never):
    code = (
        f"import client_sdk\ntext = {never!r}\n"
        f"try: client_sdk.Client({url!r}).encode({texts}, batch_size=1, timeout={10 * PATIENCE})\n"
        "except KeyboardInterrupt:\n print('ended', flush=True)\n raise\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with ending(child):
        wait_for(lambda: begun(never))
        child.send_signal(signal.SIGINT)
        with taking_at_least(0):
            assert child.stdout.readline() == "ended\n"
        _, errors = child.communicate(timeout=PATIENCE)
    assert errors.rstrip().endswith("KeyboardInterrupt") and child.returncode != 0


def test_an_interrupt_at_any_step_of_what_the_main_thread_does_over_grpc_holds_up_no_other_call(moody):
    """Python may raise KeyboardInterrupt wherever a function is called or returns."""
    transport = GrpcTransport(Connection(parse_addresses(moody.grpc_url)[0]))
    request = InferRequest("bert", [[b"text"]], ("EMBEDDING",))

    def call():
        pending = transport.start(request, 10 * PATIENCE)
        pending.add_done_callback(str)
        pending.cancel()

    for steps in count():
        left = iter(range(steps))

        def interrupt(frame, event, argument, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt

        sys.setprofile(interrupt)
        try:
            call()
            sys.setprofile(None)
            break
        except KeyboardInterrupt:  # which ended the profile, too
            pass
        landed = queue.SimpleQueue()
        transport.start(request, 10 * PATIENCE).add_done_callback(landed.put)
        assert landed.get(timeout=PATIENCE).result().arrays["EMBEDDING"].shape[0] == 1
    assert steps > 10
    with taking_at_least(0):
        transport.close()
