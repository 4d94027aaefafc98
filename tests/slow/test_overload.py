"""Too much, too slow, given up half-way: the others are served as if nothing were."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc.service_pb2 as messages
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from client_sdk import AsyncClient, Client, DeadlineExceeded, LocalServer, ServerBusy
from perf.processes import MIB, own_bytes, server_processes, shared_bytes
from tests.support.servers.local_servers import processes_of, tritonserver_of
from tests.support.servers.traffic import is_near, traffic

SLOWEST_NEIGHBOUR = 10.0  # seconds that a call may take beside the misbehaving ones


@pytest.fixture(scope="module")
def narrow(bert_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server whose encoder lets 64 texts wait, and whose tokenizer 4 requests."""
    repository = tmp_path_factory.mktemp("narrow") / "models"
    shutil.copytree(bert_repository, repository, ignore=shutil.ignore_patterns("__pycache__"))
    _edit(repository, "encoder", lambda config: _set(config.parameters["max_queue_size"], "64"))
    _edit(
        repository,
        "tokenizer",
        lambda config: setattr(config.dynamic_batching.default_queue_policy, "max_queue_size", 4),
    )
    with LocalServer(repository) as server:
        yield server


def _set(parameter, value: str) -> None:
    parameter.string_value = value


def _edit(repository: Path, step: str, change) -> None:
    path = repository / f"bert_{step}" / "config.pbtxt"
    config = text_format.Parse(path.read_text(), ModelConfig())
    change(config)
    path.write_text(text_format.MessageToString(config))


def test_what_a_full_queue_refuses_is_tried_again_until_it_is_served(narrow, texts, sentence):
    with traffic(narrow, texts, sentence, clients=24, timeout=120) as seen:
        seen.wait_for_more(100)
    assert seen.errors == [] and seen.wrong == 0


def test_a_queue_that_stays_full_is_server_busy_when_the_time_is_over(narrow, texts):
    long = [" ".join(texts[i : i + 20]) for i in range(32)]
    stop = threading.Event()

    def keep_full(_: int) -> None:
        with Client(narrow.grpc_url) as client:
            while not stop.is_set():
                client.encode(long, timeout=300)

    with ThreadPoolExecutor(8) as pool:
        keepers = [pool.submit(keep_full, i) for i in range(8)]
        time.sleep(2)
        busy = 0
        try:
            for _ in range(3):
                started = time.monotonic()
                try:
                    with Client(narrow.grpc_url) as client:
                        client.encode(long, timeout=1.0)
                except (ServerBusy, DeadlineExceeded) as error:
                    busy += isinstance(error, ServerBusy)
                assert time.monotonic() - started < 3.5
        finally:
            stop.set()
        for keeper in keepers:
            keeper.result()  # its last call, which has a timeout
    assert busy


def request_head(length: int) -> bytes:
    return (
        b"POST /v2/models/bert/infer HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % length
    )


def body_of(texts: list[str]) -> bytes:
    tensor = {"name": "TEXT", "shape": [len(texts), 1], "datatype": "BYTES", "data": texts}
    return json.dumps({"inputs": [tensor]}).encode()


def connect(server: LocalServer) -> socket.socket:
    host, _, port = server.http_url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


@contextmanager
def threads(count: int, work) -> Iterator[None]:
    """`work(stop)` in that many threads during the block."""
    stop = threading.Event()
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(work, stop) for _ in range(count)]
        try:
            yield
        finally:
            stop.set()
        for future in futures:
            future.result(timeout=60)


def test_clients_that_send_slowly_hold_nobody_up(bert, texts, sentence):
    body = body_of(texts[:8])

    def dribble(stop: threading.Event) -> None:
        with connect(bert) as connection:
            connection.sendall(request_head(len(body)))
            for i in range(len(body)):
                if stop.wait(0.2):
                    return
                connection.sendall(body[i : i + 1])

    with threads(32, dribble), traffic(bert, texts, sentence) as seen:
        seen.wait_for_more(50)
    assert seen.errors == [] and seen.wrong == 0 and seen.longest < SLOWEST_NEIGHBOUR


def test_clients_that_do_not_read_hold_nobody_up(bert, texts, sentence):
    body = body_of(texts[:64])

    def never_read(stop: threading.Event) -> None:
        with connect(bert) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            for _ in range(3):
                connection.sendall(request_head(len(body)) + body)
            stop.wait(60)

    with threads(8, never_read), traffic(bert, texts, sentence) as seen:
        seen.wait_for_more(60)
    assert seen.errors == [] and seen.wrong == 0 and seen.longest < SLOWEST_NEIGHBOUR


def test_clients_that_die_with_requests_in_flight_harm_nobody(bert, texts, sentence):
    body = body_of(texts[:16])  # computed all the same: Triton's HTTP does not cancel what nobody waits for

    def die(stop: threading.Event) -> None:
        served = seen.served  # nobody dies until another call is served, so that a slow machine is not asked for more
        while not stop.wait(0.5):
            if seen.served == served:
                continue
            served = seen.served
            with connect(bert) as connection:
                connection.sendall(request_head(len(body)) + body)
                # With this the socket ends in a reset, as that of a machine that is gone.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with traffic(bert, texts, sentence) as seen, threads(4, die):
        seen.wait_for_more(60)
    assert seen.errors == [] and seen.wrong == 0


def test_calls_that_are_cancelled_harm_nobody_and_leave_nothing(bert, texts, sentence, bert_repository):
    request = messages.ModelInferRequest(model_name="bert")
    request.inputs.add(name="TEXT", datatype="BYTES", shape=[4, 1]).contents.bytes_contents.extend(
        text.encode() for text in texts[:4]
    )
    cancelled = 0

    def cancel(stop: threading.Event) -> None:
        nonlocal cancelled
        with grpc.insecure_channel(bert.grpc_url.removeprefix("grpc://")) as channel:
            stub = GRPCInferenceServiceStub(channel)
            while not stop.wait(0.05):  # more would be an overload: what has reached the encoder is computed
                calls = [stub.ModelInfer.future(request, timeout=30) for _ in range(4)]
                time.sleep(0.005)
                cancelled += sum(call.cancel() for call in calls)

    def held() -> float:
        server = server_processes(tritonserver_of(bert_repository))
        return (sum(map(own_bytes, server)) + shared_bytes(list(server))) / MIB

    processes = processes_of(bert_repository)
    levels = []
    for _ in range(2):  # the first time for what is kept for good
        with threads(2, cancel), traffic(bert, texts, sentence, largest=40) as seen:
            seen.wait_for_more(40)
        assert seen.errors == [] and seen.wrong == 0
        levels.append(held())
    assert cancelled > 100, cancelled
    assert levels[1] - levels[0] < 32
    assert processes_of(bert_repository) == processes


async def test_tasks_that_are_cancelled_harm_no_other(bert, texts, sentence):
    async with AsyncClient(bert.grpc_url) as client:
        for _ in range(4):
            tasks = [asyncio.create_task(client.encode(texts)) for _ in range(4)]
            await asyncio.sleep(0.05)
            for task in tasks[:3]:
                task.cancel()
            assert is_near(await tasks[3], np.asarray(sentence))
            assert all(
                isinstance(end, asyncio.CancelledError)
                for end in await asyncio.gather(*tasks[:3], return_exceptions=True)
            )
