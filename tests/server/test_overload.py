"""What a full queue does, on a server whose encoder lets few texts wait."""

import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from client_sdk import Client, LocalServer


@pytest.fixture(params=[1])
def narrow_server(request: pytest.FixtureRequest, repository: Path, tmp_path: Path):
    for model in repository.glob("bert*"):
        shutil.copytree(model, tmp_path / model.name, ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "bert_encoder" / "config.pbtxt"
    config = text_format.Parse(path.read_text(), ModelConfig())
    config.parameters["max_queue_size"].string_value = str(request.param)
    path.write_text(text_format.MessageToString(config))
    with LocalServer(tmp_path) as server:
        yield server


def ask(server: LocalServer, texts: list[str]) -> tuple[str, float]:
    """What came of a request that is sent once, and after how many seconds."""
    started = time.monotonic()
    with triton.InferenceServerClient(server.grpc_url.removeprefix("grpc://")) as client:
        tensor = triton.InferInput("TEXT", [len(texts), 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[text.encode()] for text in texts], object))
        try:
            client.infer("bert", [tensor])
        except InferenceServerException as error:
            return str(error), time.monotonic() - started
    return "served", time.monotonic() - started


def test_a_full_queue_answers_unavailable_at_once_and_the_client_tries_again(narrow_server, texts):
    long = [" ".join(texts[i : i + 20]) for i in range(64)]  # about a second of work

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: ask(narrow_server, long), range(8)))
    served = [seconds for outcome, seconds in outcomes if outcome == "served"]
    refused = [(outcome, seconds) for outcome, seconds in outcomes if outcome != "served"]
    assert served and refused
    assert all("StatusCode.UNAVAILABLE" in outcome for outcome, _ in refused)
    assert max(seconds for _, seconds in refused) < max(served)

    with Client(narrow_server.grpc_url) as client, ThreadPoolExecutor(4) as pool:
        vectors = list(pool.map(client.encode, [long[:16]] * 4))
    for other in vectors[1:]:
        np.testing.assert_allclose(other, vectors[0], atol=1e-5)


@pytest.mark.parametrize("narrow_server", [128], indirect=True)
def test_requests_do_not_wait_beyond_the_limit_before_they_reach_the_queue(narrow_server, texts):
    long = [" ".join(texts[i : i + 20]) for i in range(64)]
    with ThreadPoolExecutor(24) as pool:
        outcomes = list(pool.map(lambda _: ask(narrow_server, long), range(24)))
    served = [seconds for outcome, seconds in outcomes if outcome == "served"]
    refused = [seconds for outcome, seconds in outcomes if "StatusCode.UNAVAILABLE" in outcome]
    assert len(served) + len(refused) == 24
    assert 2 <= len(served) <= 8  # two wait, the others were being computed or read
    assert max(refused) < max(served)


def test_a_server_that_is_only_busy_is_healthy(narrow_server, texts):
    long = [" ".join(texts[i : i + 20]) for i in range(64)]
    command = [sys.executable, "-m", "client_sdk", "health", "--url", narrow_server.grpc_url, "--timeout", "3"]
    done = threading.Event()

    def crowd() -> None:
        while not done.is_set():
            ask(narrow_server, long)
            time.sleep(0.1)

    with ThreadPoolExecutor(6) as pool:
        for _ in range(6):
            pool.submit(crowd)
        time.sleep(1)
        try:
            checks = [subprocess.run(command, capture_output=True, text=True) for _ in range(4)]
        finally:
            done.set()
    assert [check.returncode for check in checks] == [0] * 4, checks
    assert any(check.stdout.startswith("busy, but alive: ") for check in checks), checks


@pytest.mark.parametrize("narrow_server", [128], indirect=True)
def test_waiting_and_refused_texts_and_the_wait_are_metrics(narrow_server, texts):
    def metrics() -> dict[str, float]:
        with urllib.request.urlopen(narrow_server.metrics_url) as reply:
            found = re.findall(r'^(bert_\w+)\{model="bert"\} (\S+)$', reply.read().decode(), re.MULTILINE)
        return {name: float(value) for name, value in found}

    long = [" ".join(texts[i : i + 20]) for i in range(64)]  # about a second of work
    with ThreadPoolExecutor(6) as pool:
        requests = [pool.submit(ask, narrow_server, long) for _ in range(6)]
        most = 0.0
        while not all(request.done() for request in requests):
            most = max(most, metrics()["bert_waiting_texts"])
            time.sleep(0.05)
    refused = sum("StatusCode.UNAVAILABLE" in request.result()[0] for request in requests)
    time.sleep(0.5)
    found = metrics()
    assert 0 < most <= 128 and found["bert_waiting_texts"] == 0
    assert refused > 0 and found["bert_refused_texts_total"] == 64 * refused
    assert found["bert_queue_duration_us"] > 1e5


def test_no_request_waits_for_a_wake_up_that_was_missed(server):
    """With a limit in the queue of a model of one instance, Triton's batcher slept 0.5 s before one request in 160."""
    with Client(server.grpc_url) as client:
        client.encode("warm")
        slow = 0
        for _ in range(600):
            started = time.monotonic()
            client.encode("a short text")
            slow += time.monotonic() - started > 0.45
    assert slow < 2
