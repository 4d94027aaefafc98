"""What the tests of supervised servers share: models that misbehave, and what the supervisor says."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_sdk import LocalServer
from tests.support.servers.local_servers import UPPER, make_model, processes_of, wait_for
from tests.support.servers.moody_model import make_moody_repository

# Each misbehaves from the moment that a file lies beside it.
MISBEHAVING = """
import os
import signal
import time

import numpy as np
import triton_python_backend_utils as pb_utils

SIGN = os.path.dirname(__file__) + "/{sign}"


class TritonPythonModel:
    def initialize(self, args):
        parent = os.getppid()  # after the server's death another: that of no other instance is to be killed
        with open(f"/proc/{{parent}}/comm") as name:
            if os.path.exists(SIGN + ".start") and name.read() == "tritonserver\\n":
                os.kill(parent, signal.SIGKILL)

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        if os.path.exists(SIGN):
            {misbehaviour}
        return pb_utils.InferenceResponse([pb_utils.Tensor("EMBEDDING", np.ones((1, 1), np.float32))])
"""
HANGS = "os.unlink(SIGN); time.sleep(1000)"
FAILS = 'return pb_utils.InferenceResponse(error=pb_utils.TritonError("the network broke"))'


@contextlib.contextmanager
def supervised(repository: Path) -> Iterator[LocalServer]:
    with LocalServer(repository, supervise=True) as server:
        yield server
    assert processes_of(repository) == []


def misbehaving(repository: Path, misbehaviour: str) -> Path:
    """A family `bert` of one step that misbehaves, and the file that makes it."""
    make_moody_repository(repository)
    model = repository / "bert" / "1" / "model.py"
    model.write_text(MISBEHAVING.format(sign="sign", misbehaviour=misbehaviour))
    make_model(repository, "bert_tokenizer", UPPER)
    return model.with_name("sign")


def is_told(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(text in message for message in caplog.messages)


def wait_for_the_return(caplog: pytest.LogCaptureFixture, times: int = 1) -> None:
    wait_for(lambda: sum("the server is back after" in message for message in caplog.messages) == times)
