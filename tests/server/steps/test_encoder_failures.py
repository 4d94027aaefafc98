"""Whatever fails inside the encoder or the pooling: they go on, and only what it fails for gets an error."""

from __future__ import annotations

import os
import re
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from client_sdk import Client, LocalServer, ServerError
from client_sdk._server.guard import children_of
from tests.support.servers.local_servers import tritonserver_of, wait_for
from tests.support.servers.step_requests import body_of, ids_of, post, values

# Appended to the step's network.py: runs of ids below 20 fail in ways of their own, and id 20 gives no number.
FAULTS = '''

_session = session

def session(path, threads):
    return Faulty(_session(path, threads))

class Panic(BaseException):
    """As a library in Rust raises it."""

class Faulty:
    def __init__(self, whole):
        self.whole = whole

    def __getattr__(self, name):
        return getattr(self.whole, name)

    def run(self, names, feed):
        ids = set(feed["input_ids"].tolist())
        for number, kind in enumerate((MemoryError, SystemExit, KeyboardInterrupt, Panic, ValueError), 10):
            if number in ids:
                raise kind("as planted")
        results = self.whole.run(names, feed)
        if 20 in ids:
            place = int((feed["input_ids"] == 20).argmax())
            for name, result in zip(names, results):
                if name == "token_embeddings":
                    result[place] = float("nan")
                else:
                    result[int((np.cumsum(feed["input_ids_shape"].ravel()) <= place).sum())] = float("nan")
        return results

import numpy as np
'''
# Appended to the pooling's vectors.py: vectors whose mean begins with a number of PLANTED fail in ways of their own.
POOLING_FAULTS = """

_reduced = reduced

def reduced(pooled, pooling):
    panic = type("Panic", (BaseException,), {})
    kinds = {10: MemoryError, 11: SystemExit, 12: KeyboardInterrupt, 13: panic, 14: ValueError}
    if pooled[0, 0, 0] in kinds:
        raise kinds[pooled[0, 0, 0]]("as planted")
    return _reduced(pooled, pooling)
"""
# Appended to modules of the step: now and then, what they do fails.
UNLUCKY = """

import random

def unlucky(owner, name, chance):
    whole = getattr(owner, name)

    def method(*arguments, **options):
        if random.random() < chance:
            raise MemoryError("as planted")
        return whole(*arguments, **options)

    setattr(owner, name, method)

"""
CHAOS = {
    "backlog": "for name in ('take', 'cut', '_cut_some', 'gather', '_admit'): unlucky(Backlog, name, 0.05)",
    "jobs": "for name in ('make_outputs', 'rows'): unlucky(Job, name, 0.03)",
    "meters": "for name in ('count', 'failed', 'tell'): unlucky(Meters, name, 0.05)",
    "reading": "unlucky(Reader, 'read', 0.05)",
}
PLANTED = {10: "MemoryError", 11: "SystemExit", 12: "KeyboardInterrupt", 13: "Panic", 14: "ValueError"}


def copy_of(repository: Path, directory: Path) -> Path:
    for model in repository.glob("bert*"):
        shutil.copytree(model, directory / model.name, ignore=shutil.ignore_patterns("__pycache__"))
    return directory


@pytest.fixture(scope="module")
def faulty_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    directory = copy_of(repository, tmp_path_factory.mktemp("faulty"))
    with (directory / "bert_encoder" / "1" / "network.py").open("a") as file:
        file.write(FAULTS)
    with (directory / "bert_pooling" / "1" / "vectors.py").open("a") as file:
        file.write(POOLING_FAULTS)
    with LocalServer(directory) as server:
        yield server


def encoder_of(server: LocalServer, repository: Path) -> int:
    program = f"{repository}/bert_encoder/1/model.py".encode()
    return next(
        pid
        for pid in children_of(tritonserver_of(repository))
        if program in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    )


def metric(server: LocalServer, name: str) -> float:
    with urllib.request.urlopen(server.metrics_url) as reply:
        return float(re.search(rf'^{name}{{model="bert"}} (\S+)$', reply.read().decode(), re.MULTILINE)[1])


def test_what_a_run_raises_is_the_error_of_one_request_and_the_others_of_its_slice_are_served(faulty_server):
    good = [ids_of([[101, 2000 + seed, 102], [101, 3000 + seed, 102]]) for seed in range(6)]
    expected = [values(post(faulty_server, "bert_encoder", body_of(inputs, "pooled"))[1]) for inputs in good]
    bad = [ids_of([[101, number, 102]]) for number in PLANTED]
    before = metric(faulty_server, "bert_step_failures_total")
    lines = len(faulty_server.log_lines())

    def ask(index: int) -> None:
        inputs = bad[index // 2 % 5] if index % 2 else good[index // 2 % 6]
        status, answer = post(faulty_server, "bert_encoder", body_of(inputs, "pooled"))
        if index % 2:
            assert status == 500
            assert answer["error"] == f"the encoder failed: {PLANTED[10 + index // 2 % 5]}: as planted"
        else:
            assert status == 200
            np.testing.assert_allclose(values(answer), expected[index // 2 % 6], atol=1e-5)

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(ask, range(300)))
    wait_for(lambda: metric(faulty_server, "bert_step_failures_total") == before + 150)
    assert len(faulty_server.log_lines()) - lines < 20  # a line now and then, and not one a failure


def test_what_the_pooling_raises_is_the_error_of_one_request_and_the_others_of_its_batch_are_served(faulty_server):
    def ask(number: int) -> tuple[int, dict]:
        inputs = {"pooled": np.full((2, 4, 384), number, np.float32), "pooler_output": np.ones((2, 384), np.float32)}
        return post(faulty_server, "bert_pooling", body_of(inputs, "EMBEDDING", normalize=False))

    asked = [*range(1, 9), *PLANTED] * 20
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, asked))
    for number, (status, answer) in zip(asked, answers, strict=True):
        if number in PLANTED:
            assert status == 500 and answer["error"] == f"{PLANTED[number]}: as planted"
        else:
            assert status == 200 and (values(answer) == number).all()


@pytest.mark.parametrize("output", ["pooled", "token_embeddings"])
def test_a_row_that_is_not_finite_is_named_and_harms_no_other(faulty_server, output):
    before = metric(faulty_server, "bert_not_finite_texts_total")
    good = ids_of([[101, 2000, 102]])
    bad = ids_of([[101, 5, 102], [101, 20, 6, 102], [101, 7, 102]])

    def ask(index: int) -> tuple[int, dict]:
        return post(faulty_server, "bert_encoder", body_of(bad if index % 2 else good, output))

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))
    for index, (status, answer) in enumerate(answers):
        if index % 2:
            assert status == 400 and answer["error"] == "the network gave a vector that is not finite for text 1"
        else:
            assert status == 200 and np.isfinite(values(answer)).all()
    wait_for(lambda: metric(faulty_server, "bert_not_finite_texts_total") == before + 32)


def test_no_thread_ends_and_no_request_stays_unanswered_whatever_is_raised_anywhere(
    repository, tmp_path, texts, expected
):
    directory = copy_of(repository, tmp_path)
    for module, code in CHAOS.items():
        with (directory / "bert_encoder" / "1" / f"{module}.py").open("a") as file:
            file.write(UNLUCKY + code)
    with LocalServer(directory) as server:
        encoder = encoder_of(server, directory)
        outcomes: list[str] = []

        def ask(index: int) -> None:
            chosen = texts[index % 400 :][: (1, 3, 40)[index % 3]]
            with Client(server.grpc_url, timeout=60) as client:
                try:
                    vectors = client.encode(chosen)
                except ServerError as error:
                    assert "the encoder failed: MemoryError" in str(error)
                    outcomes.append("failed")
                else:
                    np.testing.assert_allclose(vectors, expected["sentence"][index % 400 :][: len(chosen)], atol=1e-5)
                    outcomes.append("served")

        ask(0)
        threads = len(os.listdir(f"/proc/{encoder}/task"))
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(ask, range(240)))
        assert len(outcomes) == 241 and {"failed", "served"} == set(outcomes)
        assert len(os.listdir(f"/proc/{encoder}/task")) == threads
        wait_for(lambda: metric(server, "bert_step_failures_total") > 0)
        wait_for(lambda: metric(server, "bert_waiting_texts") == 0)  # it is told now and then


def test_a_request_is_refused_when_its_timeout_has_passed_in_the_queue(server, texts):
    long = [" ".join(texts[i : i + 7]) for i in range(24)]
    stop = threading.Event()

    def load() -> None:
        with Client(server.grpc_url, timeout=120) as client:
            while not stop.is_set():
                client.encode(long)

    with ThreadPoolExecutor(6) as pool:
        loads = [pool.submit(load) for _ in range(6)]
        try:
            wait_for(lambda: metric(server, "bert_waiting_texts") > 64)
            refused = metric(server, "bert_refused_texts_total")
            body = body_of(ids_of([[101, 2000, 102]]), "pooled", bulk=True, timeout=1000)  # behind them
            status, answer = post(server, "bert_encoder", body)
        finally:
            stop.set()
        for one in loads:
            one.result()
    assert status == 503 and re.match(r"the request waited .* s to be encoded, and may 0.001 s", answer["error"])
    wait_for(lambda: metric(server, "bert_refused_texts_total") >= refused + 1)
    assert post(server, "bert_encoder", body)[0] == 200  # nobody before it


def test_an_identity_that_is_not_the_models_is_refused_by_each_step(repository, tmp_path):
    directory = copy_of(repository, tmp_path)
    for step in ("encoder", "pooling"):
        path = directory / f"bert_{step}" / "config.pbtxt"
        config = text_format.Parse(path.read_text(), ModelConfig())
        config.parameters["identity.1"].string_value = "a" * 32
        config.parameters["identity.2"].string_value = "c" * 32
        path.write_text(text_format.MessageToString(config))
        (directory / f"bert_{step}" / "1" / "identity").write_text("a" * 32)
    pooled = {"pooled": np.ones((1, 4, 384), np.float32), "pooler_output": np.ones((1, 384), np.float32)}
    with LocalServer(directory) as server:
        for model, inputs, output in (
            ("bert_encoder", ids_of([[101, 102]]), "pooled"),
            ("bert_pooling", pooled, "EMBEDDING"),
        ):
            assert post(server, model, body_of(inputs, output))[0] == 200
            assert post(server, model, body_of(inputs, output, identity="a" * 32))[0] == 200
            status, answer = post(server, model, body_of(inputs, output, identity="c" * 32))
            assert status == 404
            assert answer["error"] == (
                f"identity: the request is for {'c' * 32}, and this is {'a' * 32}: the model has been replaced"
            )


def test_wrong_numbers_of_threads_stop_the_start_and_say_so(repository, tmp_path, monkeypatch):
    directory = copy_of(repository, tmp_path)
    monkeypatch.setenv("BERT_ENCODER_THREADS", "3")
    with LocalServer(directory) as server:
        post(server, "bert_encoder", body_of(ids_of([[101, 102]]), "pooled"))
        three = len(os.listdir(f"/proc/{encoder_of(server, directory)}/task"))
    monkeypatch.setenv("BERT_ENCODER_THREADS", "5")
    with LocalServer(directory) as server:
        post(server, "bert_encoder", body_of(ids_of([[101, 102]]), "pooled"))
        assert len(os.listdir(f"/proc/{encoder_of(server, directory)}/task")) > three
    monkeypatch.setenv("BERT_ENCODER_THREADS", "many")
    with pytest.raises(Exception, match="BERT_ENCODER_THREADS is 'many'; it takes a number of threads"):
        LocalServer(directory).start()
