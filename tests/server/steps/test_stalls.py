"""A step whose process stands still in the middle of a request: nobody gets the answer that Triton gave up."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from client_sdk import Client, LocalServer
from client_sdk._server.guard import children_of
from tests.support.patience import PATIENCE, wait_for
from tests.support.servers.local_servers import command_of, http_request, tritonserver_of
from tests.support.servers.supervised import wait_for_the_return

# From the moment that a file lies beside it, a step is in the middle of its next request for a second at least. Of the
# two ways to sleep the second keeps Python's lock, as a wait for the disk does.
SLOW = """

def _slowly(self, given, ordinary=TritonPythonModel.{method}):
    if os.path.exists(__file__ + ".slow"):
        os.rename(__file__ + ".slow", __file__ + ".busy")
        {wait}
    return ordinary(self, given)

import ctypes, time
TritonPythonModel.{method} = _slowly
"""

SLEEP = "time.sleep(1)"
SLEEP_WITH_THE_LOCK = "ctypes.PyDLL(None).usleep(2_000_000)"

IN_A_BATCH = {"tokenizer": "_answers", "encoder": "_answers", "pooling": "_respond"}

T = TypeVar("T")


@pytest.fixture
def own_repository(bert_repository: Path, tmp_path: Path) -> Path:
    """Of one instance a step."""
    copy = tmp_path / "models"
    shutil.copytree(bert_repository, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.glob("*/config.pbtxt"):
        config = text_format.Parse(path.read_text(), ModelConfig())
        for group in config.instance_group:
            group.count = 1
        path.write_text(text_format.MessageToString(config))
    return copy


def program_of(repository: Path, step: str) -> Path:
    return repository / f"bert_{step}" / "1" / "model.py"


def make_slow(repository: Path, step: str, wait: str = SLEEP) -> None:
    with program_of(repository, step).open("a") as program:
        program.write(SLOW.format(method=IN_A_BATCH[step], wait=wait))


def process_of(repository: Path, step: str) -> int:
    program = str(program_of(repository, step)).encode()
    (process,) = [pid for pid in children_of(tritonserver_of(repository)) if program in command_of(pid).split(b"\0")]
    return process


def stop_in_the_middle(repository: Path, step: str, ask: Callable[[], T]) -> tuple[int, T]:
    """The step's process, which is stopped while it does what is asked, and what came of that."""
    program, process = program_of(repository, step), process_of(repository, step)
    with ThreadPoolExecutor(1) as pool:
        program.with_name("model.py.slow").touch()
        asked = pool.submit(ask)
        wait_for(program.with_name("model.py.busy").exists)
        os.kill(process, signal.SIGSTOP)
        return process, asked.result()


def outcome(server: LocalServer, text: str) -> str:
    """What comes of one request that nobody tries again."""
    body = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]}
    status, answer = http_request(server.http_url, "POST", "/v2/models/bert/infer", body)
    return "served" if status == 200 else json.loads(answer)["error"]


@pytest.mark.parametrize("step", IN_A_BATCH)
def test_a_step_that_stood_still_in_the_middle_of_a_request_ends_before_it_answers(own_repository: Path, step: str):
    make_slow(own_repository, step)
    given_up = f"'bert_{step}_0_0' is not healthy"
    with LocalServer(own_repository) as server:
        assert outcome(server, "before") == "served"
        process, meanwhile = stop_in_the_middle(own_repository, step, lambda: outcome(server, "meanwhile"))
        assert given_up in meanwhile
        os.kill(process, signal.SIGCONT)
        wait_for(lambda: command_of(process) == b"")
        assert given_up in outcome(server, "afterwards")
        assert any(f"/bert_{step}/1/stalls.py: the process stood still" in line for line in server.log_lines())


@pytest.mark.parametrize("step", IN_A_BATCH)
def test_a_step_whose_python_waits_answers(own_repository: Path, step: str):
    make_slow(own_repository, step, SLEEP_WITH_THE_LOCK)
    with LocalServer(own_repository) as server:
        assert outcome(server, "before") == "served"
        process = process_of(own_repository, step)
        program_of(own_repository, step).with_name("model.py.slow").touch()
        assert outcome(server, "meanwhile") == "served"
        assert program_of(own_repository, step).with_name("model.py.busy").exists()
        assert process_of(own_repository, step) == process


def test_a_call_across_a_stall_has_its_own_vectors(
    own_repository: Path, texts: list[str], expected: dict[str, np.ndarray], supervisor_log: pytest.LogCaptureFixture
):
    make_slow(own_repository, "encoder")
    with LocalServer(own_repository, supervise=True) as server, Client(server.grpc_url) as client:
        _, found = stop_in_the_middle(
            own_repository, "encoder", lambda: client.encode(texts[:64], batch_size=4, timeout=PATIENCE)
        )
        wait_for_the_return(supervisor_log)
    np.testing.assert_allclose(found, expected["sentence"][:64], atol=1e-5)
