"""Keys, and what is counted of their holders' requests, on a real gateway before a real server."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from pathlib import Path

import pytest

from client_sdk import Client, LocalServer
from tests.support.patience import wait_for
from tests.support.servers.gateways import RunningGateway, running_gateway

SEARCH, NIGHTLY, NEW = "the-key-of-search", "the-key-of-nightly", "the-key-of-somebody-new"
TEXTS = ["First do it", "then do it right"]


def line(name: str, key: str, *rate: str) -> str:
    """Of the file."""
    return " ".join([name, hashlib.sha256(key.encode()).hexdigest(), *rate]) + "\n"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of two, one of whom may have few texts."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(line("search", SEARCH) + line("nightly", NIGHTLY, "0.01"))
    return path


@pytest.fixture(scope="module")
def closed(gateway_server: LocalServer, file: Path, tmp_path_factory: pytest.TempPathFactory):
    """A gateway that asks for them."""
    folder = tmp_path_factory.mktemp("closed")
    with running_gateway(folder, gateway_server.grpc_url, "--keys", str(file)) as running:
        yield running


def ask(gateway: RunningGateway, key: str, path: str = "/v1/embeddings", **fields):
    """With a key."""
    return gateway.send("POST", path, json.dumps({"input": TEXTS, **fields}), authorization=f"Bearer {key}")


def test_who_has_no_key_gets_nothing_and_who_has_one_all(closed):
    assert ask(closed, "no-key").status == 401
    assert closed.get("/v1/models").status == 401
    assert closed.get("/health/ready").json["status"] == "ready"
    assert len(ask(closed, SEARCH).json["data"]) == 2
    assert SEARCH not in closed.output.read_text()
    wait_for(lambda: {line.get("key") for line in closed.log() if line["path"] == "/v1/embeddings"} >= {None, "search"})


def test_texts_beyond_the_rate_of_a_key_are_refused_with_the_time_to_wait(closed):
    assert ask(closed, NIGHTLY).status == 200
    refused = ask(closed, NIGHTLY)
    assert refused.status == 429
    assert refused.json["error"]["code"] == "rate_limit_exceeded"
    assert refused.json["error"]["message"] == "the key 'nightly' may have 0.01 texts a second; try again"
    assert 100 < int(refused.headers["retry-after"]) <= 200
    assert ask(closed, SEARCH).status == 200


def test_what_is_answered_is_counted_by_key_and_model(closed, gateway_server):
    def counted(name: str) -> float:
        text = closed.get("/metrics").body.decode()
        found = re.search(
            rf'bert_gateway_{name}_total{{key="search",model="bert",route="/v1/embeddings"(?:,status="200")?}} (\S+)',
            text,
        )
        return float(found[1]) if found else 0

    before = [counted(name) for name in ("requests", "texts", "tokens")]
    assert ask(closed, SEARCH, model="bert").status == 200
    with Client(gateway_server.grpc_url) as client:
        tokens = int(client.count_tokens(TEXTS).sum())
    grown = [counted(name) - old for name, old in zip(("requests", "texts", "tokens"), before, strict=True)]
    assert grown == [1, 2, tokens]


def test_the_file_is_read_again_when_it_is_asked_for(closed, file):
    file.write_text("no list of keys\n")
    closed.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "the keys stay as they were" in closed.output.read_text())
    assert ask(closed, SEARCH).status == 200

    file.write_text(line("search", SEARCH) + line("new", NEW))
    closed.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "2 keys have been read" in closed.output.read_text())
    assert ask(closed, NEW).status == 200
    assert ask(closed, NIGHTLY).status == 401
