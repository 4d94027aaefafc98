"""What a full queue does, on a server whose encoder lets few texts wait."""

import queue
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
from tests.support.patience import PATIENCE, settled, wait_for


@pytest.fixture(scope="module", params=[(1, 1)])
def narrow_server(request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory):
    """Of an encoder with so many places for texts that wait, in each of so many instances."""
    folder = tmp_path_factory.mktemp("narrow")
    for model in repository.glob("bert*"):
        shutil.copytree(model, folder / model.name, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "bert_encoder" / "config.pbtxt"
    config = text_format.Parse(path.read_text(), ModelConfig())
    places, config.instance_group[0].count = request.param
    config.parameters["max_queue_size"].string_value = str(places)
    path.write_text(text_format.MessageToString(config))
    with LocalServer(folder) as server:
        yield server


def burst(server: LocalServer, texts: list[str], count: int) -> list[tuple[str, float]]:
    """So many equal requests, sent at once and each once: what came of them, and after how many seconds."""
    tensor = triton.InferInput("TEXT", [len(texts), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()] for text in texts], object))
    answers: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
    with triton.InferenceServerClient(server.grpc_url.removeprefix("grpc://")) as client:
        assert client.is_server_ready()  # it is connected
        started = time.monotonic()

        def answered(result: object, error: InferenceServerException | None) -> None:
            answers.put(("served" if error is None else str(error), time.monotonic() - started))

        for _ in range(count):
            client.async_infer("bert", [tensor], answered)
        return [answers.get(timeout=PATIENCE) for _ in range(count)]


def test_a_full_queue_answers_unavailable_at_once_and_the_client_tries_again(narrow_server, texts):
    long = [" ".join(texts[i : i + 7]) for i in range(64)]  # about half a second of work

    outcomes = burst(narrow_server, long, 8)
    served = [seconds for outcome, seconds in outcomes if outcome == "served"]
    refused = [(outcome, seconds) for outcome, seconds in outcomes if outcome != "served"]
    assert served and refused
    assert all("StatusCode.UNAVAILABLE" in outcome for outcome, _ in refused)
    assert max(seconds for _, seconds in refused) < max(served)

    with Client(narrow_server.grpc_url, timeout=PATIENCE) as client, ThreadPoolExecutor(4) as pool:
        vectors = list(pool.map(client.encode, [long[:16]] * 4))
    for other in vectors[1:]:
        np.testing.assert_allclose(other, vectors[0], atol=1e-5)


@pytest.mark.parametrize("narrow_server", [(128, 1)], indirect=True)
def test_requests_do_not_wait_beyond_the_limit_before_they_reach_the_queue(narrow_server, texts):
    long = [" ".join(texts[i : i + 7]) for i in range(64)]
    outcomes = burst(narrow_server, long, 24)
    served = [seconds for outcome, seconds in outcomes if outcome == "served"]
    refused = [seconds for outcome, seconds in outcomes if "StatusCode.UNAVAILABLE" in outcome]
    assert len(served) + len(refused) == 24
    assert 2 <= len(served) <= 8  # two wait, the others were being computed or read
    assert max(refused) < max(served)


def test_a_server_that_is_only_busy_is_healthy(narrow_server, texts):
    long = [" ".join(texts[i : i + 7]) for i in range(64)]
    command = [sys.executable, "-m", "client_sdk", "health", "--url", narrow_server.grpc_url, "--timeout", "10"]
    crowded, done = threading.Event(), threading.Event()

    def crowd() -> None:
        while not done.is_set():
            if any(outcome != "served" for outcome, _ in burst(narrow_server, long, 6)):
                crowded.set()

    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(crowd)
        try:
            assert crowded.wait(PATIENCE)
            checks = [subprocess.run(command, capture_output=True, text=True) for _ in range(2)]
        finally:
            done.set()
    assert [check.returncode for check in checks] == [0] * 2, checks
    assert any(check.stdout.startswith("busy, but alive: ") for check in checks), checks


@pytest.mark.parametrize("narrow_server", [(128, 1)], indirect=True)
def test_waiting_and_refused_texts_and_the_wait_are_metrics(narrow_server, texts):
    def metrics() -> dict[str, float]:
        with urllib.request.urlopen(narrow_server.metrics_url) as reply:
            found = re.findall(r'^(bert_\w+)\{model="bert"\} (\S+)$', reply.read().decode(), re.MULTILINE)
        return {name: float(value) for name, value in found}

    def more(name: str) -> float:
        return metrics()[name] - before[name]

    before = settled(metrics)  # of other tests
    long = [" ".join(texts[i : i + 7]) for i in range(64)]  # about half a second of work
    with ThreadPoolExecutor(1) as pool:
        requests = pool.submit(burst, narrow_server, long, 8)
        most = 0.0
        while not requests.done():
            most = max(most, metrics()["bert_waiting_texts"])
            time.sleep(0.05)
    refused = sum("StatusCode.UNAVAILABLE" in outcome for outcome, _ in requests.result())
    assert 0 < most <= 128
    assert refused > 0
    wait_for(lambda: metrics()["bert_waiting_texts"] == 0 and more("bert_refused_texts_total") >= 64 * refused)
    assert more("bert_refused_texts_total") == 64 * refused
    wait_for(lambda: more("bert_queue_duration_us") > 1e5)


@pytest.mark.parametrize("narrow_server", [(128, 2)], indirect=True)
def test_the_texts_that_wait_in_two_instances_are_told_together(narrow_server, texts):
    def waiting() -> float:
        with urllib.request.urlopen(narrow_server.metrics_url) as reply:
            text = reply.read().decode()
        return float(re.search(r'^bert_waiting_texts\{model="bert"\} (\S+)$', text, re.MULTILINE)[1])

    long = [" ".join(texts[i : i + 7]) for i in range(64)]  # about half a second of work
    with ThreadPoolExecutor(1) as pool:
        requests = pool.submit(burst, narrow_server, long, 24)
        most = 0.0
        while not requests.done():
            most = max(most, waiting())
            time.sleep(0.05)
    assert 128 < most <= 256
    wait_for(lambda: waiting() == 0)


def test_no_request_waits_for_a_wake_up_that_was_missed(server):
    """With a limit in the queue of a model of one instance, Triton's batcher slept 0.5 s before one request in 160."""
    took = []
    with Client(server.grpc_url) as client:
        client.encode("warm")
        for _ in range(600):
            started = time.monotonic()
            client.encode("a short text")
            took.append(time.monotonic() - started)
    # A busy machine makes requests slow by more and by less than half a second; a wake-up that was missed does not.
    counts, _ = np.histogram(took, [0.0, 0.25, 0.45, 0.65, np.inf])
    assert counts[2] < 2 + max(counts[1], counts[3]), counts
