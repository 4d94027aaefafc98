"""What a gateway answers when its server does not, or its caller does not wait; on a server whose texts are moods."""

import http.client
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from client_sdk import LocalServer
from tests.support.patience import PATIENCE, wait_for
from tests.support.servers.gateways import RunningGateway, running_gateway
from tests.support.servers.local_servers import kill_server_of
from tests.support.servers.moody_family import make_moody_family


@pytest.fixture(scope="module")
def moody(tmp_path_factory):
    with LocalServer(make_moody_family(tmp_path_factory.mktemp("moody_family"))) as server:
        yield server


@contextmanager
def begun(gateway: RunningGateway, word: Path) -> Iterator[http.client.HTTPConnection]:
    """A request that is being answered until the file `word` is there."""
    with closing(gateway.connect()) as connection:
        connection.request("POST", "/v1/embeddings", f'{{"input": "until {word}"}}')
        wait_for(Path(f"{word}.begun").exists)
        yield connection


def test_a_server_too_slow_is_504(moody, tmp_path):
    word = tmp_path / "go"
    with running_gateway(tmp_path, moody.grpc_url, "--timeout", "2") as gateway:
        answer = gateway.post("/v1/embeddings", input=f"until {word}")
        word.touch()
    assert answer.status == 504 and answer.json["error"]["message"] == "the server did not answer in time"


def test_a_server_that_stays_busy_is_429_and_says_when_to_come_again(moody, tmp_path):
    with running_gateway(tmp_path, moody.grpc_url, "--timeout", "2") as gateway:
        answer = gateway.post("/v1/embeddings", input="busy")
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert answer.json["error"]["code"] == "rate_limit_exceeded" and "127.0.0.1" not in str(answer.json)


def test_a_server_that_fails_is_500_and_its_words_are_for_the_log(moody, tmp_path):
    with running_gateway(tmp_path, moody.grpc_url) as gateway:
        answer = gateway.post("/v1/embeddings", input=f"broken {tmp_path / 'attempts'}")
        assert answer.status == 500 and answer.json["error"]["type"] == "server_error"
        assert "network broke" not in answer.body.decode() and "network broke" in gateway.output.read_text()


def test_more_requests_than_are_answered_at_a_time_are_429(moody, tmp_path):
    word = tmp_path / "go"
    with running_gateway(tmp_path, moody.grpc_url, "--max-concurrency", "1") as gateway:
        with begun(gateway, word) as waiting:
            answer = gateway.post("/v1/embeddings", input="hello")
            assert answer.status == 429 and "1 requests are being answered" in answer.json["error"]["message"]
            assert gateway.get("/health/live").status == 200
            word.touch()
            assert waiting.getresponse().status == 200
        assert gateway.post("/v1/embeddings", input="hello").status == 200


def test_a_caller_that_hangs_up_leaves_its_place(moody, tmp_path):
    word = tmp_path / "go"
    with running_gateway(tmp_path, moody.grpc_url, "--max-concurrency", "1") as gateway:
        with begun(gateway, word):
            pass
        (line,) = wait_for(gateway.log)
        assert line["status"] == 499
        assert gateway.post("/v1/embeddings", input="hello").status == 200
        word.touch()


def test_what_is_being_answered_when_it_is_told_to_end_is_answered(moody, tmp_path):
    word = tmp_path / "go"
    with running_gateway(tmp_path, moody.grpc_url) as gateway, begun(gateway, word) as waiting:
        gateway.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            with closing(gateway.connect()) as connection:
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    return True
            return False

        wait_for(refused)
        assert gateway.process.poll() is None
        word.touch()
        assert waiting.getresponse().status == 200
        assert gateway.process.wait(PATIENCE) == 0


def test_a_server_that_was_killed_is_503_and_one_in_its_place_answers_with_what_it_has(tmp_path):
    repository, ports = make_moody_family(tmp_path / "models"), {}
    with LocalServer(repository) as server, running_gateway(tmp_path, server.grpc_url, "--timeout", "2") as gateway:
        ports["grpc_port"] = int(server.grpc_url.rpartition(":")[2])
        assert gateway.post("/v1/embeddings", input="hello").status == 200
        assert gateway.post("/v1/embeddings", model="other", input="hello").status == 404
        kill_server_of(repository)
        for answer in (gateway.post("/v1/embeddings", input="hello"), gateway.get("/health/ready")):
            assert answer.status in (503, 504) and answer.json["error"]["type"] == "server_error"
        assert gateway.get("/health/live").status == 200
        with LocalServer(make_moody_family(tmp_path / "models", "other"), **ports):
            wait_for(lambda: gateway.get("/health/ready").status == 200)
            wait_for(lambda: gateway.post("/v1/embeddings", model="other", input="hello").status == 200)


def test_a_server_that_is_not_there_is_503_at_once(tmp_path):
    with running_gateway(tmp_path, "grpc://127.0.0.1:1") as gateway:
        answer = gateway.post("/v1/embeddings", input="hello")
        assert answer.status == 503 and "cannot be reached" in answer.json["error"]["message"]
        assert answer.headers["retry-after"] == "1"


def test_many_callers_at_once_are_all_answered(moody, tmp_path):
    with running_gateway(tmp_path, moody.grpc_url) as gateway:
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.append(gateway.post("/v1/embeddings", input="hello").status))
            for _ in range(64)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert found == [200] * 64
