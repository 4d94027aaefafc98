"""A request that a step cannot read or compute fails by itself, beside others that are served."""

from __future__ import annotations

import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from client_sdk import LocalServer
from tests.support.servers.local_servers import wait_for
from tests.support.servers.step_requests import body_of, ids_of, post, values

NOT_UTF8 = {"x": "@"}  # whose @ becomes a byte that no UTF-8 has


def pooled(seed: int) -> np.ndarray:
    """What the encoder gives for two texts."""
    return np.random.default_rng(seed).standard_normal((2, 4, 384)).astype(np.float32)


def inputs_of(step: str, seed: int) -> dict[str, np.ndarray]:
    if step == "pooling":
        return {"pooled": pooled(seed), "pooler_output": np.zeros((2, 384), np.float32)}
    return ids_of([[101, 2000 + seed, 102], [101, 3000, 2000 + seed, 102]])


OUTPUTS = {"encoder": "pooled", "pooling": "EMBEDDING"}


@pytest.mark.parametrize("step", ["encoder", "pooling"])
def test_parameters_that_are_no_utf8_fail_by_themselves_and_leave_the_log_alone(server: LocalServer, step: str):
    output = OUTPUTS[step]
    good = [body_of(inputs_of(step, seed), output) for seed in range(4)]
    expected = [values(post(server, f"bert_{step}", body)[1]) for body in good]
    bad = body_of(inputs_of(step, 0), output, **NOT_UTF8).replace(b'"@"', b'"\xff\xfe"')
    lines = len(server.log_lines())

    def ask(index: int) -> tuple[int, dict[str, Any]]:
        return post(server, f"bert_{step}", bad if index % 2 else good[index // 2 % 4])

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(240)))
    for index, (status, answer) in enumerate(answers):
        if index % 2:
            assert status == 400 and "the parameters of the request cannot be read" in answer["error"]
        else:
            assert status == 200
            np.testing.assert_allclose(values(answer), expected[index // 2 % 4], atol=1e-5)
    assert len(server.log_lines()) - lines < 5


def counted(server: LocalServer, name: str) -> float:
    with urllib.request.urlopen(server.metrics_url) as reply:
        return float(re.search(rf'^{name}{{model="bert"}} (\S+)$', reply.read().decode(), re.MULTILINE)[1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_vector_that_is_not_finite_is_no_answer_and_is_counted(server: LocalServer, value: float):
    before = counted(server, "bert_not_finite_texts_total")
    inputs = inputs_of("pooling", 0)
    inputs["pooled"][1, 0, 7] = value  # the second text's mean; of 3e38 the square overflows
    status, answer = post(server, "bert_pooling", body_of(inputs, "EMBEDDING"))
    assert status == 400 and answer["error"] == "the network gave a vector that is not finite for text 1"
    wait_for(lambda: counted(server, "bert_not_finite_texts_total") == before + 1)
    assert post(server, "bert_pooling", body_of(inputs, "EMBEDDING", pooling="cls"))[0] == 200


@pytest.mark.parametrize("step", ["encoder", "pooling"])
def test_what_is_shown_of_a_wrong_value_is_short(server: LocalServer, step: str):
    body = body_of(inputs_of(step, 0), OUTPUTS[step], pooling="x" * 1_000_000, truncate_dim=1 << 60)
    status, answer = post(server, f"bert_{step}", body)
    assert status == (200 if step == "encoder" else 400) and len(str(answer.get("error"))) < 300


def test_masks_without_anything_to_pool_give_finite_vectors(server: LocalServer):
    inputs = inputs_of("encoder", 5)
    inputs["pooling_mask"] = np.zeros_like(inputs["pooling_mask"])
    status, answer = post(server, "bert_encoder", body_of(inputs, "pooled"))
    assert status == 200 and np.isfinite(values(answer)).all()


@pytest.mark.parametrize("shape", [(0, 4), (2, 0)])
def test_inputs_of_no_rows_or_no_columns_are_answered(server: LocalServer, shape: tuple[int, int]):
    inputs = {name: np.zeros(shape, np.int32) for name in ids_of([[1]])}
    status, answer = post(server, "bert_encoder", body_of(inputs, "pooled"))
    assert status == 400 or not values(answer).any()
    assert post(server, "bert_encoder", body_of(inputs_of("encoder", 0), "pooled"))[0] == 200
