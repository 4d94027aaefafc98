"""A server that is looked after: whatever ends it, or keeps it from serving, it is back on its ports, and says why."""

import contextlib
import errno
import json
import os
import re
import signal
from pathlib import Path

import pytest

from client_sdk import LocalServer
from client_sdk._server.guard import children_of
from client_sdk._server.processes import ServerProcesses
from client_sdk._server.run import ServerRun
from tests.support.patience import PATIENCE
from tests.support.servers.local_servers import (
    command_of,
    ending,
    files_of,
    free_ports,
    http_request,
    name_of,
    processes_of,
    python,
    read_until,
    serve,
    tritonserver_of,
    upper_by_http,
    wait_for,
)
from tests.support.servers.supervised import FAILS, is_told, misbehaving, supervised, wait_for_the_return

pytestmark = pytest.mark.usefixtures("ends_in_order")


def test_a_killed_tritonserver_is_back_on_its_ports(upper_repository: Path, supervisor_log: pytest.LogCaptureFixture):
    with supervised(upper_repository) as server:
        urls = server.http_url, server.grpc_url, server.metrics_url
        first = name_of(upper_repository)
        os.kill(tritonserver_of(upper_repository), signal.SIGKILL)
        wait_for_the_return(supervisor_log)
        assert is_told(supervisor_log, "tritonserver ended (status 137); starting the server again")
        assert (server.http_url, server.grpc_url, server.metrics_url) == urls
        assert upper_by_http(server, "text") == "TEXT"
        assert server.is_running
        assert files_of(first) == []


def test_a_dead_python_step_is_noticed_though_triton_calls_itself_ready(
    upper_repository: Path, supervisor_log: pytest.LogCaptureFixture
):
    with LocalServer(upper_repository) as server:  # nobody ends this one while it is asked
        (step,) = children_of(tritonserver_of(upper_repository))
        os.kill(step, signal.SIGKILL)
        wait_for(lambda: command_of(step) == b"")  # it is dead, and its server has not taken note
        assert http_request(server.http_url, "GET", "/v2/health/ready")[0] == 200
    with supervised(upper_repository) as server:
        (step,) = children_of(tritonserver_of(upper_repository))
        os.kill(step, signal.SIGKILL)
        wait_for_the_return(supervisor_log)
        assert is_told(supervisor_log, "the process of upper died; starting the server again")
        assert upper_by_http(server, "text") == "TEXT"


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), KeyError("as planted")])
def test_a_server_that_cannot_be_looked_at_when_it_is_back_is_started_once_more(
    upper_repository: Path,
    supervisor_log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
):
    looks = []

    def processes(run: ServerRun) -> ServerProcesses:
        looks.append(run)
        if len(looks) == 1:
            raise error
        return whole(run)

    with supervised(upper_repository) as server:
        whole = ServerRun.processes
        monkeypatch.setattr(ServerRun, "processes", processes)
        os.kill(tritonserver_of(upper_repository), signal.SIGKILL)
        wait_for(lambda: is_told(supervisor_log, "the server is back after"), 60)
        assert is_told(supervisor_log, f"{error.args[-1]}") and len({*looks}) == 2
        assert not looks[0].is_running and upper_by_http(server, "text") == "TEXT"


def test_a_start_that_is_refused_leaves_no_files(
    upper_repository: Path,
    tmp_path: Path,
    supervisor_log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with LocalServer(upper_repository, supervise=True, open_endpoints=["model-repository"]) as server:
        (upper_repository / "upper" / "2").mkdir()  # nothing is left out where models are loaded by name
        os.kill(tritonserver_of(upper_repository), signal.SIGKILL)
        wait_for(lambda: is_told(supervisor_log, "holds upper/2, unfinished"))
        wait_for(lambda: not list(tmp_path.glob("bert-on-triton-*")), 10)
        (upper_repository / "upper" / "2").rmdir()
        wait_for_the_return(supervisor_log)
        assert upper_by_http(server, "text") == "TEXT"


def test_a_step_that_fails_all_requests_is_found_by_them(tmp_path: Path, supervisor_log: pytest.LogCaptureFixture):
    sign = misbehaving(tmp_path, FAILS)
    with supervised(tmp_path):
        sign.touch()
        wait_for(lambda: is_told(supervisor_log, "3 requests failed, the last one with HTTP 500"))
        sign.unlink()
        wait_for_the_return(supervisor_log)
        assert is_told(supervisor_log, "the network broke")


def test_a_family_that_came_since_the_start_is_looked_after_once_it_is_served(
    upper_repository: Path, supervisor_log: pytest.LogCaptureFixture
):
    with supervised(upper_repository):
        sign = misbehaving(upper_repository, FAILS)
        os.kill(tritonserver_of(upper_repository), signal.SIGKILL)
        wait_for_the_return(supervisor_log)
        sign.touch()
        wait_for(lambda: is_told(supervisor_log, "3 requests failed, the last one with HTTP 500"))


def test_a_step_that_stood_still_with_a_request_is_found_by_its_first_answer(
    tmp_path: Path, supervisor_log: pytest.LogCaptureFixture
):
    misbehaving(tmp_path, "pass")
    with supervised(tmp_path):
        for step in children_of(tritonserver_of(tmp_path)):
            os.kill(step, signal.SIGSTOP)
        wait_for_the_return(supervisor_log)
        (told, _) = supervisor_log.messages
        what = "stood still, and Triton may now mix up its answers; starting the server again"
        assert re.fullmatch(rf"bert_\d_\d {what}", told)


IN_A_SCRIPT = """
import sys, time
from client_sdk import LocalServer
with LocalServer(sys.argv[1], supervise=True) as server:
    print('up', flush=True)
    time.sleep(60)
"""


def test_a_killed_parent_leaves_nothing_after_a_restart_either(upper_repository: Path):
    with ending(python(IN_A_SCRIPT, upper_repository)) as parent:
        read_until(parent, "up")
        first = tritonserver_of(upper_repository)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: processes_of(upper_repository) and _is_another(upper_repository, first))
        name = name_of(upper_repository)
        parent.kill()
        parent.wait()
        wait_for(lambda: not processes_of(upper_repository))
    assert files_of(name) == []


def _is_another(repository: Path, first: int) -> bool:
    with contextlib.suppress(StopIteration, OSError):
        return tritonserver_of(repository) != first
    return False


def test_serve_brings_the_server_back_and_says_so_with_the_time(upper_repository: Path):
    ports = free_ports()
    with ending(serve(upper_repository, ports=ports)) as process:
        read_until(process, "Ctrl-C")
        os.kill(tritonserver_of(upper_repository), signal.SIGKILL)
        assert process.stderr is not None
        assert "tritonserver ended (status 137); starting the server again\n" in process.stderr.readline()
        assert "the server is back after" in process.stderr.readline()
        body = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["text"]}]}
        status, answer = http_request(f"http://127.0.0.1:{ports[0]}", "POST", "/v2/models/upper/infer", body)
        assert status == 200 and json.loads(answer)["outputs"][0]["data"] == ["TEXT"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert processes_of(upper_repository) == []
