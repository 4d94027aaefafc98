"""What docker/'s dashboard and rules ask for, asked of a real Prometheus that scrapes a real server under traffic."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from client_sdk import Client, LocalServer
from tests.support import prometheus
from tests.support.docker_files import DASHBOARD, DOCKER, RULES, expressions, metrics_options
from tests.support.patience import wait_for
from tests.support.servers.gateways import RunningGateway, running_gateway
from tests.support.servers.local_servers import http_request

NO_GPU_HERE = re.compile(r"nv_gpu_|nv_energy_")

# For a test that takes seconds: every server is asked each second, and a rule is looked at as often.
INTERVAL = "1s"


@pytest.fixture(scope="module")
def watched_server(repository: Path) -> Iterator[LocalServer]:
    with LocalServer(repository, extra_args=metrics_options()) as server:
        yield server


@pytest.fixture(scope="module")
def watched_gateway(watched_server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), watched_server.grpc_url) as running:
        yield running


@pytest.fixture(scope="module")
def traffic(watched_server: LocalServer, watched_gateway: RunningGateway) -> Iterator[None]:
    """Requests of every kind, for as long as the tests run."""
    ended = threading.Event()

    def ask() -> None:
        with Client(watched_server.grpc_url, model="bert") as bert, Client(watched_server.grpc_url, "small") as small:
            while not ended.wait(0.2):
                bert.encode(["a short text", "a text " * 300])
                bert.encode_tokens(["a short text"])
                small.encode(["hello"])
                small.encode_tokens(["hello"])
                watched_gateway.post("/v1/embeddings", model="small", input="hello")

    thread = threading.Thread(target=ask, name="traffic")
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.fixture(scope="module")
def watching(
    watched_server: LocalServer,
    watched_gateway: RunningGateway,
    traffic: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[prometheus.Prometheus]:
    """A Prometheus with the configuration and the rules of docker/, but for the addresses and the times."""
    directory = tmp_path_factory.mktemp("prometheus")
    with prometheus.running(configuration(watched_server, watched_gateway.url, directory), directory) as running:
        yield running


def configuration(server: LocalServer, gateway: str | None, directory: Path) -> dict[str, Any]:
    rules = directory / "rules.yaml"
    # No alert waits before it fires, and all rates are of the last 10 s.
    rules.write_text(re.sub(r"\[\dm\]", "[10s]", re.sub(r"for: \dm", "for: 0s", RULES.read_text())))
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
    config["rule_files"] = [str(rules)]
    for job, url in zip(config["scrape_configs"], (server.metrics_url, gateway), strict=True):
        targets = [url.removeprefix("http://").removesuffix("/metrics")] if url else []
        job["static_configs"] = [{"targets": targets}]
    return config


def wait_for_value(watching: prometheus.Prometheus, expression: str) -> None:
    """Until the expression has a series, and no series without a value."""

    def has_value() -> bool:
        series = watching.query(expression)
        return bool(series) and not any(math.isnan(value) for _, value in series)

    try:
        wait_for(has_value)
    except AssertionError:
        pytest.fail(f"{expression} gives {watching.query(expression)}")


def test_the_alert_for_a_server_that_is_down_fires(upper_repository, tmp_path):
    with LocalServer(upper_repository, extra_args=metrics_options()) as server:
        config = configuration(server, None, tmp_path)
        with prometheus.running(config, tmp_path) as watching:
            wait_for_value(watching, 'up{job="bert-on-triton"} == 1')
            wait_for(lambda: watching.firing() == set())
            server.stop()
            wait_for(lambda: watching.firing() == {"BertOnTritonDown"})


def test_every_metric_that_the_rules_name_exists(watching):
    expressions = " ".join(
        rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    )
    names = set(re.findall(r"\b(?:nv|bert)_\w+", expressions))
    assert len(names) == 10
    for name in sorted(names):
        wait_for_value(watching, f'max({name}{{model=~"bert.*|small"}})')


def test_every_panel_of_the_dashboard_shows_something(watching):
    dashboard = json.loads(DASHBOARD.read_text())
    shown = [(panel, text) for panel, text in expressions(dashboard, family="bert|small", interval="10s")]
    without_gpu = [(panel, text) for panel, text in shown if not NO_GPU_HERE.search(text)]
    assert len(shown) - len(without_gpu) == 5  # utilisation, memory used and in all, power and its limit
    assert len(without_gpu) > 30
    for _, text in without_gpu:
        wait_for_value(watching, text)


def test_the_figures_are_those_of_the_traffic(watching):
    short, longest = 5, 256  # tokens: [CLS] a short text [SEP], and max_seq_len, at which the other text is cut
    rounds = 'sum(rate(nv_inference_request_success{model="bert_tokens"}[10s]))'
    for counter, in_a_round in (
        ('bert_tokens_total{model="bert"}', short + longest + short),
        ('bert_truncated_texts_total{model="bert"}', 1),
        ('nv_inference_count{model="bert"}', 2),
        ('nv_inference_count{model="bert_encoder"}', 3),
    ):
        # Once the window holds nothing of the server's start.
        ratio = f"sum(rate({counter}[10s])) / {rounds}"
        wait_for_value(watching, f"({ratio} > {0.9 * in_a_round}) < {1.1 * in_a_round}")


def test_the_rules_are_loaded_and_no_alert_fires_under_good_traffic(watching):
    groups = yaml.safe_load(RULES.read_text())["groups"]
    names = {rule.get("alert") or rule["record"] for group in groups for rule in group["rules"]}
    wait_for(lambda: set(watching.rules().values()) == {"ok"})
    assert set(watching.rules()) == names
    wait_for(lambda: watching.firing() == set())  # until the first scrape the server is down
    time.sleep(3)
    assert watching.firing() == set()


def test_the_alert_for_errors_fires_when_requests_are_refused(watching, watched_server):
    blank = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [""]}]}

    def refused() -> bool:
        for _ in range(40):
            status, _body = http_request(watched_server.http_url, "POST", "/v2/models/bert/infer", blank)
            assert status == 400
        return "BertOnTritonErrors" in watching.firing()

    wait_for(refused)
    assert "BertOnTritonStepFails" not in watching.firing()
