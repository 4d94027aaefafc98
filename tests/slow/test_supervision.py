"""What takes a supervisor longer to notice, or to be sure of."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client_sdk import Client, LocalServer
from client_sdk._server.guard import children_of
from client_sdk._server.supervisor import IDLE_SECONDS
from tests.support.patience import PATIENCE
from tests.support.servers.local_servers import (
    ending,
    http_request,
    processes_of,
    read_until,
    serve,
    tritonserver_of,
    upper_by_http,
    wait_for,
)
from tests.support.servers.supervised import HANGS, is_told, misbehaving, supervised, wait_for_the_return


def test_a_tritonserver_that_hangs_is_replaced(upper_repository: Path, supervisor_log: pytest.LogCaptureFixture):
    with supervised(upper_repository) as server:
        os.kill(tritonserver_of(upper_repository), signal.SIGSTOP)
        wait_for_the_return(supervisor_log)
        assert is_told(supervisor_log, "tritonserver has not answered for")
        assert upper_by_http(server, "text") == "TEXT"


def test_a_step_that_hangs_is_found_by_a_request_through_it(tmp_path: Path, supervisor_log: pytest.LogCaptureFixture):
    sign = misbehaving(tmp_path, HANGS)
    with supervised(tmp_path):
        sign.touch()
        wait_for_the_return(supervisor_log)
        assert is_told(supervisor_log, "bert has not answered for")
        assert is_told(supervisor_log, "and computes nothing; starting")


def test_a_step_that_hangs_is_unhealthy(tmp_path: Path):
    sign = misbehaving(tmp_path, HANGS)
    with LocalServer(tmp_path) as server:
        sign.touch()
        command = [sys.executable, "-m", "client_sdk", "health", "--url", server.grpc_url, "--timeout", "2"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and ended.stderr.startswith("unhealthy: ") and "2 s" in ended.stderr


def test_a_pause_of_everything_is_no_silence_of_the_server(tmp_path: Path):
    sign = misbehaving(tmp_path, "open(SIGN + '.asked', 'w').close(); time.sleep(3)")
    sign.touch()
    asked = sign.with_name("sign.asked")
    with ending(serve(tmp_path)) as process:
        read_until(process, "Ctrl-C")
        server = tritonserver_of(tmp_path)
        others = set(processes_of(tmp_path)) - {process.pid}
        steps = set(children_of(server))
        for _ in range(2):
            asked.unlink(missing_ok=True)
            wait_for(asked.exists)  # by the supervisor's own request, which is on its way now
            for pid in (process.pid, *others):
                os.kill(pid, signal.SIGSTOP)
            time.sleep(IDLE_SECONDS + 2)
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(1)  # it looks before the others have their turn
            for pid in steps:
                os.kill(pid, signal.SIGCONT)
            time.sleep(2)  # each shows life, lest Triton give up its request, which is a reason to start again
            for pid in others - steps:
                os.kill(pid, signal.SIGCONT)
        time.sleep(IDLE_SECONDS + 1)
        assert tritonserver_of(tmp_path) == server
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_server_that_hangs_after_a_pause_is_replaced(tmp_path: Path):
    misbehaving(tmp_path, "pass")
    with ending(serve(tmp_path)) as process:
        read_until(process, "Ctrl-C")
        everything = {process.pid, *processes_of(tmp_path)}
        server = tritonserver_of(tmp_path)
        for pid in everything:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(IDLE_SECONDS + 2)
        for pid in everything - {server}:
            os.kill(pid, signal.SIGCONT)
        assert process.stderr is not None
        assert "has not answered for" in process.stderr.readline()
        assert "the server is back" in process.stderr.readline()


def test_a_server_that_does_not_stay_up_is_started_less_and_less_often(
    tmp_path: Path, supervisor_log: pytest.LogCaptureFixture
):
    sign = misbehaving(tmp_path, "pass")
    crash = sign.with_name("sign.start")
    with supervised(tmp_path):
        crash.touch()
        os.kill(tritonserver_of(tmp_path), signal.SIGKILL)
        wait_for(lambda: is_told(supervisor_log, "starting the server again in 2 s"))
        assert is_told(supervisor_log, "starting the server again in 1 s")
        assert is_told(supervisor_log, "tritonserver stopped before it was ready (status 137)")
        crash.unlink()
        wait_for_the_return(supervisor_log)


def test_a_repository_that_is_mended_is_served_before_the_pause_is_over(
    tmp_path: Path, supervisor_log: pytest.LogCaptureFixture
):
    misbehaving(tmp_path, "pass")
    config = tmp_path / "bert" / "config.pbtxt"
    good = config.read_text()
    with supervised(tmp_path):
        config.write_text("max_batch_size: many")
        os.kill(tritonserver_of(tmp_path), signal.SIGKILL)
        wait_for(lambda: is_told(supervisor_log, "starting the server again in 16 s"))
        config.write_text(good)
        wait_for_the_return(supervisor_log)
        assert is_told(supervisor_log, "the model repository has changed; starting the server now")


def test_stopping_does_not_wait_for_a_server_that_will_not_start(
    tmp_path: Path, supervisor_log: pytest.LogCaptureFixture
):
    sign = misbehaving(tmp_path, "pass")
    with supervised(tmp_path):
        sign.with_name("sign.start").touch()
        os.kill(tritonserver_of(tmp_path), signal.SIGKILL)
        wait_for(lambda: is_told(supervisor_log, "in 4 s"))
    assert not is_told(supervisor_log, "in 8 s")  # which the next start would have led to


def test_a_model_that_is_unloaded_on_purpose_is_no_reason_to_start_again(
    upper_repository: Path, supervisor_log: pytest.LogCaptureFixture
):
    with LocalServer(upper_repository, supervise=True, open_endpoints=["model-repository"]) as server:
        assert http_request(server.http_url, "POST", "/v2/repository/models/upper/unload", {})[0] == 200
        wait_for(lambda: http_request(server.http_url, "GET", "/v2/models/upper/ready")[0] != 200)
        time.sleep(3)
        assert http_request(server.http_url, "POST", "/v2/repository/models/upper/load", {})[0] == 200
        time.sleep(3)
        assert upper_by_http(server, "text") == "TEXT"
        assert supervisor_log.messages == []


def test_a_server_that_computes_for_long_is_not_taken_for_one_that_hangs(
    tmp_path: Path, supervisor_log: pytest.LogCaptureFixture
):
    sign = misbehaving(
        tmp_path, "os.unlink(SIGN); end = time.monotonic() + 15\n            while time.monotonic() < end: pass"
    )
    with supervised(tmp_path) as server:
        sign.touch()
        wait_for(lambda: not sign.exists())  # by the supervisor's own request
        with Client(server.grpc_url) as client:
            assert client.encode("four").tolist() == [1]
        time.sleep(16)
        assert supervisor_log.messages == []
