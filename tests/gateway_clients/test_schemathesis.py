"""schemathesis asks all that the gateway's own OpenAPI page has, rightly and wrongly: no answer but those that it
names, and memory stays as it is.

`--requests` says how many; with 10,000 a leak of 2 KiB a request is 19.5 MiB.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from client_sdk import Client, LocalServer
from perf.processes import MIB, own_bytes
from tests.gateway_clients.test_packages import PYTHON
from tests.support.servers.gateways import RunningGateway, same
from tests.support.servers.local_servers import processes_of
from tests.support.servers.memory import held_mib

SETTINGS = Path(__file__).with_name("schemathesis.toml")
GROWTH_MIB = {"the gateway": 10.0, "tritonserver": 10.0, "the steps": 16.0}
MOST_EXAMPLES = 100
"""Of a route, in one run of schemathesis."""
OF_ALL_PHASES = 2000
"""Requests: of fewer all are drawn by chance, since a look at every bound of every field takes 1,500."""


def held(gateway: RunningGateway, repository: Path) -> dict[str, float]:
    server, steps = held_mib(repository)
    return {"the gateway": own_bytes(gateway.process.pid) / MIB, "tritonserver": server, "the steps": steps}


def ask(gateway: RunningGateway, folder: Path, requests: int, first_seed: int) -> Counter[tuple[str, int]]:
    """Sends so many requests or some more, and counts their routes and statuses."""
    before = len(gateway.log())
    for seed in count(first_seed):
        examples = min(MOST_EXAMPLES, requests // 20)
        command = [PYTHON, "-m", "schemathesis.cli", "--config-file", SETTINGS, "run", f"{gateway.url}/openapi.json"]
        phases = "fuzzing" if requests < OF_ALL_PHASES else "coverage,fuzzing"
        options = [
            "--no-color",
            "--continue-on-failure",
            "--seed",
            seed,
            "--max-examples",
            examples,
            "--phases",
            phases,
        ]
        done = subprocess.run([*map(str, [*command, *options])], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = gateway.log()[before:]
        if len(lines) >= requests:
            return Counter((line["path"], line["status"]) for line in lines)
    raise AssertionError


def test_no_answer_but_those_that_the_page_names_and_memory_stays_as_it_is(
    gateway: RunningGateway,
    gateway_repository: Path,
    gateway_server: LocalServer,
    tmp_path: Path,
    pytestconfig: pytest.Config,
):
    requests = pytestconfig.getoption("--requests")
    processes = processes_of(gateway_repository)
    ask(gateway, tmp_path, requests // 10, first_seed=1)
    for _ in range(20):  # each of the two tokenizers makes another, of 7 MiB, with the first text of bert-as-service
        assert gateway.post("/encode", id=1, texts=["First do it"]).status == 200
    before = held(gateway, gateway_repository)
    seen = ask(gateway, tmp_path, requests, first_seed=1001)
    after = held(gateway, gateway_repository)
    statuses = sum((Counter({status: n}) for (_, status), n in seen.items()), Counter())
    print(f"\n{seen.total()} requests: {dict(statuses)}; MiB: {before}, then {after}")
    assert not {place for place in seen if place[1] >= 500}
    assert statuses[200] > seen.total() / 10
    assert processes_of(gateway_repository) == processes
    for what, most in GROWTH_MIB.items():
        assert after[what] - before[what] < most, (what, before, after)
    with Client(gateway_server.grpc_url) as bert:
        answer = gateway.post("/v1/embeddings", model="bert", input="First do it")
        same(np.array(answer.json["data"][0]["embedding"], np.float32), bert.encode("First do it"))
