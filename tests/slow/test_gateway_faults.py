"""A gateway, its server or a step is killed, and callers that do not behave: each request ends, others are answered."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from client_sdk import LocalServer
from client_sdk._server.guard import children_of
from tests.support.patience import PATIENCE, wait_for
from tests.support.servers.balancer import one_address
from tests.support.servers.gateways import Answer, RunningGateway, running_gateway
from tests.support.servers.local_servers import free_ports, kill_server_of, processes_of, tritonserver_of
from tests.support.servers.moody_family import make_moody_family

TEXT = "hello"
LOST = "no answer"
CALLERS = 8
CALLERS_AT_ONCE = 256
IDLE = 1000
MIB = 1 << 20


@pytest.fixture(scope="module")
def moody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server that no test stops."""
    with LocalServer(make_moody_family(tmp_path_factory.mktemp("moody"))) as server:
        yield server


def outcome_of(answer: Answer) -> int:
    """The status of an answer that is whole and right: a vector, or an error in its form."""
    found = answer.json
    if answer.status == 200:
        assert found["data"][0]["embedding"] == [len(TEXT)]
    else:
        kinds = {429: "rate_limit_error", 503: "server_error", 504: "server_error"}
        assert found["error"]["type"] == kinds[answer.status], found
        assert "127.0.0.1" not in found["error"]["message"]
    return answer.status


def ask(gateway: RunningGateway) -> int | str:
    """What came of one request; an answer that is cut short, as its length says, is none."""
    try:
        return outcome_of(gateway.post("/v1/embeddings", input=TEXT))
    except (ConnectionError, http.client.IncompleteRead):
        return LOST


@contextmanager
def asked_all_the_time(*gateways: RunningGateway) -> Iterator[list[int | str]]:
    """What comes of the requests of callers that go on whatever happens; each ends, or the test fails."""
    outcomes: list[int | str] = []
    wrong: list[BaseException] = []
    over = threading.Event()

    def call(number: int) -> None:
        while not over.is_set():
            try:
                outcomes.append(ask(gateways[number % len(gateways)]))
            except BaseException as error:
                wrong.append(error)
                return
            time.sleep(0.02)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(outcomes) > CALLERS or wrong)
        yield outcomes
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong, wrong[0]


def memory_of(gateway: RunningGateway) -> float:
    """Resident, in MiB."""
    pages = int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def test_a_killed_server_is_503_until_another_is_there(tmp_path):
    repository = make_moody_family(tmp_path / "models")
    ports = dict(zip(("http_port", "grpc_port", "metrics_port"), free_ports(), strict=True))
    with (
        LocalServer(repository, **ports) as server,
        running_gateway(tmp_path, server.grpc_url, "--timeout", "2") as gateway,
        asked_all_the_time(gateway) as outcomes,
    ):
        kill_server_of(repository)
        wait_for(lambda: 503 in outcomes)
        assert gateway.get("/health/live").status == 200
        server.stop()
        wait_for(lambda: not processes_of(repository))
        with LocalServer(repository, **ports):
            wait_for(lambda: outcomes[-CALLERS:] == [200] * CALLERS)
    assert set(outcomes) <= {200, 503, 504}, Counter(outcomes)


def test_a_killed_step_is_503_until_it_is_back(tmp_path):
    repository = make_moody_family(tmp_path / "models")
    with (
        LocalServer(repository, supervise=True) as server,
        running_gateway(tmp_path, server.grpc_url, "--timeout", "2") as gateway,
        asked_all_the_time(gateway) as outcomes,
    ):
        stub, *_ = children_of(tritonserver_of(repository))
        asked = len(outcomes)
        os.kill(stub, signal.SIGKILL)
        wait_for(lambda: outcomes[asked + CALLERS :][-CALLERS:] == [200] * CALLERS)
        wait_for(lambda: gateway.get("/health/ready").status == 200)
    assert set(outcomes) <= {200, 503, 504}, Counter(outcomes)


def test_a_killed_gateway_loses_its_own_callers_and_one_in_its_place_answers(moody, tmp_path):
    places = [tmp_path / name for name in ("one", "two", "three")]
    for place in places:
        place.mkdir()
    with ExitStack() as stack:
        one, two = (stack.enter_context(running_gateway(place, moody.grpc_url)) for place in places[:2])
        with asked_all_the_time(one) as lost, asked_all_the_time(two) as answered:
            one.process.kill()
            wait_for(lambda: lost[-CALLERS:] == [LOST] * CALLERS)
            port = f"127.0.0.1:{one.port}"
            stack.enter_context(running_gateway(places[2], moody.grpc_url, "--listen", port))  # the last one counts
            wait_for(lambda: lost[-CALLERS:] == [200] * CALLERS)
        assert set(lost) == {200, LOST} and set(answered) == {200}


def test_behind_one_address_the_callers_of_a_killed_gateway_go_on_with_the_other(moody, tmp_path):
    places = [tmp_path / name for name in ("one", "two")]
    for place in places:
        place.mkdir()
    with ExitStack() as stack:
        one, two = (stack.enter_context(running_gateway(place, moody.grpc_url)) for place in places)
        port = stack.enter_context(one_address(one.port, two.port))
        with asked_all_the_time(replace(one, port=port)) as outcomes:
            wait_for(lambda: one.log() and two.log())
            asked = len(outcomes)
            one.process.kill()
            wait_for(lambda: outcomes[asked + 2 * CALLERS :][-CALLERS:] == [200] * CALLERS)
    assert set(outcomes) <= {200, LOST} and outcomes.count(LOST) <= CALLERS, Counter(outcomes)


def test_on_sigterm_every_request_that_was_taken_is_answered(moody, tmp_path):
    with running_gateway(tmp_path, moody.grpc_url) as gateway, asked_all_the_time(gateway) as outcomes:
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(PATIENCE) == 0
        wait_for(lambda: outcomes[-CALLERS:] == [LOST] * CALLERS)
    taken = [line["status"] for line in gateway.log() if line["path"] == "/v1/embeddings"]
    assert set(taken) == {200} and len(taken) == outcomes.count(200)


def test_a_caller_that_reads_slowly_has_a_whole_answer_and_keeps_nobody_waiting(moody, tmp_path):
    texts = ["a" * MIB] * 8  # which go back with the vectors
    with running_gateway(tmp_path, moody.grpc_url) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as slow:
            body = json.dumps({"texts": texts}).encode()
            slow.sendall(b"POST /v2/embed HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            response = http.client.HTTPResponse(slow)
            response.begin()
            for _ in range(10):
                assert ask(gateway) == 200
            found = json.loads(response.read())
        assert response.status == 200 and found["texts"] == texts


def test_bodies_that_never_end_keep_nobody_waiting_and_take_no_memory(moody, tmp_path):
    with running_gateway(tmp_path, moody.grpc_url, "--max-body", "1") as gateway, ExitStack() as stack:
        assert ask(gateway) == 200
        before = memory_of(gateway)
        for _ in range(20):
            endless = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE))
            endless.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
            with pytest.raises(ConnectionError):
                while True:
                    endless.sendall(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")
            assert ask(gateway) == 200
        assert {line["status"] for line in gateway.log()} == {200, 413}
        assert memory_of(gateway) - before < 30


def test_a_line_that_never_ends_keeps_nobody_waiting_and_takes_no_memory(moody, tmp_path):
    with running_gateway(tmp_path, moody.grpc_url) as gateway, ExitStack() as stack:
        assert ask(gateway) == 200
        before = memory_of(gateway)
        for begin in (b"GET /", b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;"):
            endless = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE))
            endless.sendall(begin)
            with pytest.raises(ConnectionError):
                while True:
                    endless.sendall(b"a" * 0x10000)
            assert ask(gateway) == 200
        assert memory_of(gateway) - before < 30


def descriptors_of(gateway: RunningGateway) -> int:
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))


def answer_on(connection: socket.socket) -> Answer:
    """The next one."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return Answer(response.status, {}, response.read())


def test_a_thousand_idle_connections_and_256_callers_at_once_are_all_served(moody, tmp_path):
    body = json.dumps({"input": TEXT}).encode()
    question = b"POST /v1/embeddings HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with running_gateway(tmp_path, moody.grpc_url) as gateway, ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE))

        assert ask(gateway) == 200
        before = memory_of(gateway)
        for _ in range(IDLE):  # of which each has been answered once
            idle = connect()
            idle.sendall(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n")
            assert answer_on(idle).status == 200
        assert descriptors_of(gateway) > IDLE
        of_idle = memory_of(gateway) - before
        callers = [connect() for _ in range(CALLERS_AT_ONCE)]
        for caller in callers:
            caller.sendall(question[:-1])
        wait_for(
            lambda: b"bert_gateway_requests_in_flight %d.0" % (1 + CALLERS_AT_ONCE) in gateway.get("/metrics").body
        )
        for caller in callers:
            caller.sendall(question[-1:])
        assert [outcome_of(answer_on(caller)) for caller in callers] == [200] * CALLERS_AT_ONCE
        of_all = memory_of(gateway) - before
        print(f"\n{IDLE} idle connections take {of_idle:.0f} MiB, with {CALLERS_AT_ONCE} callers at once {of_all:.0f}")
        assert of_all < 100
        stack.close()
        wait_for(lambda: descriptors_of(gateway) < IDLE)


def test_callers_that_hang_up_leave_nothing(moody, tmp_path):
    with running_gateway(tmp_path, moody.grpc_url, "--max-concurrency", "20") as gateway:
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as caller:
                body = b'{"input": "sleep 0.3"}'
                caller.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: test\r\nContent-Length: 22\r\n\r\n" + body)
        wait_for(lambda: len(gateway.log()) == 100)
        wait_for(lambda: ask(gateway) == 200)
        assert b"bert_gateway_requests_in_flight 1.0" in gateway.get("/metrics").body
