"""A new version of a family, and its models loaded anew, while clients go on encoding: no call fails."""

from __future__ import annotations

import pytest

from client_sdk import Client, LocalServer
from tests.conftest import fill
from tests.support import reference
from tests.support.servers.local_servers import http_request
from tests.support.servers.traffic import traffic

ONE_REQUEST = 40  # texts: calls of more than one request may be refused, since they would mix versions


def load(server: LocalServer, name: str) -> None:
    status, answer = http_request(server.http_url, "POST", f"/v2/repository/models/{name}/load", {})
    assert status == 200, answer


def test_a_new_version_takes_over_under_load_without_a_failed_request(own_repository, texts, sentence):
    with (
        LocalServer(own_repository, open_endpoints=["model-repository"]) as server,
        Client(server.grpc_url) as client,
        traffic(server, texts, sentence, largest=ONE_REQUEST) as seen,
    ):
        fill(own_repository, reference.checkpoint(), "bert", version=2)
        for step in ("bert_tokenizer", "bert_encoder", "bert_pooling", "bert_tokens", "bert"):
            load(server, step)
            seen.wait_for_more(20)
        versions = http_request(server.http_url, "GET", "/v2/models/bert")[1]
        assert b'"versions":["2"]' in versions
        assert client.encode("text").shape == (384,)
        before = seen.served
        seen.wait_for_more(20)
        assert seen.served > before
    assert seen.errors == [] and seen.wrong == 0


@pytest.mark.parametrize("step", ["bert_tokenizer", "bert_encoder", "bert_pooling"])
def test_a_step_that_is_loaded_anew_under_load_fails_no_request(own_repository, texts, sentence, step):
    with (
        LocalServer(own_repository, open_endpoints=["model-repository"]) as server,
        traffic(server, texts, sentence) as seen,
    ):
        for _ in range(3):
            model = own_repository / step / "1" / "model.py"
            model.touch()  # Triton loads again what has changed
            load(server, step)
            seen.wait_for_more(20)
        assert sum(f"successfully loaded '{step}'" in line for line in server.log_lines()) == 4
    assert seen.errors == [] and seen.wrong == 0
