"""Something dies under load: every request ends, in a right vector or a clear error, and the server comes back."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from client_sdk import Client, LocalServer, ServerBusy, ServerStartError, ServerUnreachable, StepDied
from client_sdk._server.guard import children_of
from perf.soak.families import copy_family
from tests.support.patience import taking_at_least, wait_for
from tests.support.servers.local_servers import http_request, processes_of, tritonserver_of
from tests.support.servers.supervised import wait_for_the_return
from tests.support.servers.traffic import is_near, traffic

STEPS = ["tokenizer", "encoder", "pooling"]


def process_of(repository: Path, step: str) -> int:
    """One process of a Python step."""
    program = f"{repository}/bert_{step}/1/model.py".encode()
    return next(
        pid
        for pid in children_of(tritonserver_of(repository))
        if program in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    )


def infer_once(url: str, text: str) -> str:
    """One request without any second attempt; what came of it."""
    body = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]}
    try:
        status, answer = http_request(url, "POST", "/v2/models/bert/infer", body)
    except (OSError, http.client.HTTPException):
        return "no connection"
    return "served" if status == 200 else json.loads(answer)["error"]


@contextmanager
def plain_requests(url: str) -> Iterator[list[str]]:
    """What comes of requests by four threads that try nothing twice."""
    outcomes: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            outcomes.append(infer_once(url, "a short text"))
            time.sleep(0.01)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        over.set()
        for thread in threads:
            thread.join()


def is_clear(outcome: str) -> bool:
    return outcome in ("served", "no connection") or "is not healthy" in outcome


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_step_loses_no_call_and_is_back(bert_repository, texts, sentence, step, supervisor_log):
    with (
        LocalServer(bert_repository, supervise=True) as server,
        traffic(server, texts, sentence) as seen,
        plain_requests(server.http_url) as outcomes,
    ):
        os.kill(process_of(bert_repository, step), signal.SIGKILL)
        wait_for_the_return(supervisor_log)
        seen.wait_for_more(20)
        assert infer_once(server.http_url, "text") == "served"
    assert f"the process of bert_{step} died; starting the server again" in supervisor_log.messages
    assert seen.errors == [] and seen.wrong == 0
    assert {outcome for outcome in outcomes if not is_clear(outcome)} == set()
    assert len(set(outcomes)) > 1  # so some were in flight
    assert processes_of(bert_repository) == []


def test_without_a_supervisor_a_dead_step_is_an_error_that_says_so(own_repository, texts):
    with LocalServer(own_repository) as server:
        os.kill(process_of(own_repository, "encoder"), signal.SIGKILL)
        for url in (server.grpc_url, server.http_url):
            with (
                Client(url) as client,
                taking_at_least(3.5),
                pytest.raises(StepDied, match="a step of the model has died.*bert_encoder"),
            ):
                client.encode(texts[:8], timeout=4)


def test_a_bulk_encode_goes_on_where_a_killed_server_is_started_again(bert_repository, texts, sentence):
    with LocalServer(bert_repository, supervise=True) as server, Client(server.grpc_url) as client:
        client.encode(texts[:64])
        timer = threading.Timer(1.0, lambda: os.kill(tritonserver_of(bert_repository), signal.SIGKILL))
        timer.start()
        vectors = client.encode(texts * 10, timeout=120)
        timer.join()
        assert is_near(vectors, np.tile(sentence, (10, 1)))
        assert sum("Started GRPCInferenceService" in line for line in server.log_lines()) == 2


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_bulk_encode_on_a_server_that_stays_dead_is_a_clear_error(bert_repository, texts, protocol):
    with LocalServer(bert_repository) as server:
        url = server.grpc_url if protocol == "grpc" else server.http_url
        with Client(url) as client:
            client.encode(texts[:64])
            timer = threading.Timer(0.5, lambda: os.kill(tritonserver_of(bert_repository), signal.SIGKILL))
            timer.start()
            with taking_at_least(3.5), pytest.raises(ServerUnreachable, match="was it stopped"):
                client.encode(texts * 10, timeout=4)
            timer.join()


def damage(path: Path, content: bytes) -> None:
    path.unlink()  # it may be a link to the file of another version
    path.write_bytes(content)


DAMAGES = {
    "bert_encoder/1/model.onnx": lambda whole: whole[: len(whole) // 2],
    "bert_tokenizer/1/tokenizer.json": lambda whole: whole[: len(whole) // 2] + b"}{",
    "bert_encoder/1/model.py": lambda whole: whole.replace(b"def execute", b"def execute("),
}


@pytest.mark.parametrize("file", DAMAGES)
def test_a_damaged_file_keeps_the_server_from_starting_and_is_named(own_repository, file):
    path = own_repository / file
    damage(path, DAMAGES[file](path.read_bytes()))
    with pytest.raises(ServerStartError) as error, LocalServer(own_repository):
        pass
    model = file.split("/")[0]
    assert model in str(error.value)
    assert len(str(error.value).splitlines()) < 21
    assert processes_of(own_repository) == []


def test_a_damaged_family_that_is_loaded_later_is_refused_and_harms_no_other(own_repository, texts, sentence):
    copy_family(own_repository, "bert", own_repository, "other")
    whole = own_repository / "other_encoder" / "1" / "model.onnx"
    content = whole.read_bytes()
    with LocalServer(own_repository, open_endpoints=["model-repository"]) as server:
        load = "/v2/repository/models/{}/load"
        unload = "/v2/repository/models/{}/unload"
        for name in ("other", "other_tokens", "other_encoder"):
            assert http_request(server.http_url, "POST", unload.format(name), {})[0] == 200
        wait_for(lambda: http_request(server.http_url, "GET", "/v2/models/other_encoder/ready")[0] != 200)
        damage(whole, content[:1000])
        with traffic(server, texts, sentence, clients=2) as seen:
            status, answer = http_request(server.http_url, "POST", load.format("other"), {})
            assert status >= 400 and b"other_encoder" in answer
            with Client(server.grpc_url, "other") as client, pytest.raises(ServerBusy, match="'other' has no"):
                client.encode("text", timeout=5)
            seen.wait_for_more(10)
        assert seen.errors == [] and seen.wrong == 0
