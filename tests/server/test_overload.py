"""What a full queue does, on a server whose encoder lets one text wait."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from client_sdk import Client, LocalServer


@pytest.fixture
def narrow_server(repository: Path, tmp_path: Path):
    for model in repository.glob("bert*"):
        shutil.copytree(model, tmp_path / model.name, ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "bert_encoder" / "config.pbtxt"
    config = text_format.Parse(path.read_text(), ModelConfig())
    config.parameters["max_queue_size"].string_value = "1"
    path.write_text(text_format.MessageToString(config))
    with LocalServer(tmp_path) as server:
        yield server


def test_a_full_queue_answers_unavailable_at_once_and_the_client_tries_again(narrow_server, texts):
    long = [" ".join(texts[i : i + 20]) for i in range(64)]  # about a second of work

    def ask(_: int) -> tuple[str, float]:
        started = time.monotonic()
        with triton.InferenceServerClient(narrow_server.grpc_url.removeprefix("grpc://")) as client:
            tensor = triton.InferInput("TEXT", [len(long), 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[text.encode()] for text in long], object))
            try:
                client.infer("bert", [tensor])
            except InferenceServerException as error:
                return str(error), time.monotonic() - started
        return "served", time.monotonic() - started

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(ask, range(8)))
    served = [seconds for outcome, seconds in outcomes if outcome == "served"]
    refused = [(outcome, seconds) for outcome, seconds in outcomes if outcome != "served"]
    assert served and refused
    assert all("StatusCode.UNAVAILABLE" in outcome for outcome, _ in refused)
    assert max(seconds for _, seconds in refused) < max(served)

    with Client(narrow_server.grpc_url) as client, ThreadPoolExecutor(4) as pool:
        vectors = list(pool.map(client.encode, [long[:16]] * 4))
    for other in vectors[1:]:
        np.testing.assert_allclose(other, vectors[0], atol=1e-5)


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
