"""The end of a LocalServer, by itself, by its parent or by violence: nothing of it is left."""

import contextlib
import http.client
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from client_sdk._server.local_server import LocalServer
from tests.support.patience import PATIENCE
from tests.support.servers.local_servers import (
    NEVER_ANSWERS,
    SLOW_TO_START,
    command_of,
    ending,
    files_of,
    make_model,
    name_of,
    processes_of,
    python,
    read_until,
    tritonserver_of,
    upper_by_http,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("ends_in_order")


def test_nothing_is_left_after_a_stop_and_it_can_start_again(upper_repository: Path):
    server = LocalServer(upper_repository)
    descriptors = []
    for _ in range(2):
        with server:
            assert len(processes_of(upper_repository)) == 3  # the guard, tritonserver and a Python backend
            name = name_of(upper_repository)
            assert files_of(name)
            upper_by_http(server, "text")
        assert not server.is_running
        assert processes_of(upper_repository) == []
        assert files_of(name) == []
        descriptors.append(len(os.listdir("/proc/self/fd")))
    assert descriptors[0] == descriptors[1]
    assert any("successfully loaded 'upper'" in line for line in server.log_lines())
    server.stop()  # a second time does nothing


def test_nothing_is_left_after_an_exception(upper_repository: Path):
    with pytest.raises(ZeroDivisionError), LocalServer(upper_repository):
        name = name_of(upper_repository)
        _ = 1 / 0
    assert processes_of(upper_repository) == []
    assert files_of(name) == []


def test_stopping_is_bounded_while_a_model_hangs(tmp_path: Path):
    make_model(tmp_path, "upper", NEVER_ANSWERS)
    called = tmp_path / "upper" / "1" / "model.py.called"
    server = LocalServer(tmp_path)
    with server:
        name = name_of(tmp_path)
        caller = threading.Thread(target=_answer_or_not, args=(server,))
        caller.start()
        wait_for(called.exists)
        started = time.monotonic()
    assert time.monotonic() - started < PATIENCE
    assert processes_of(tmp_path) == []
    assert files_of(name) == []
    caller.join()


def _answer_or_not(server: LocalServer) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
        upper_by_http(server, "text")


IN_A_SCRIPT = """
import os, sys, time
from client_sdk import LocalServer
with LocalServer(sys.argv[1]) as server:
    {body}
"""


def test_a_killed_parent_leaves_nothing(upper_repository: Path):
    with ending(
        python(IN_A_SCRIPT.format(body="print('up', flush=True); time.sleep(600)"), upper_repository)
    ) as parent:
        read_until(parent, "up")
        name = name_of(upper_repository)
        assert files_of(name)
        parent.kill()
        parent.wait()
        wait_for(lambda: not processes_of(upper_repository))
    assert files_of(name) == []


def test_a_parent_killed_while_models_load_leaves_nothing(tmp_path: Path):
    make_model(tmp_path, "upper", SLOW_TO_START)
    with ending(python(IN_A_SCRIPT.format(body="pass"), tmp_path)) as parent:
        wait_for(lambda: len(processes_of(tmp_path)) == 4)  # with the parent, which has the path too
        name = name_of(tmp_path)
        parent.kill()
        parent.wait()
        wait_for(lambda: not processes_of(tmp_path))
    assert files_of(name) == []


def test_a_killed_parent_leaves_nothing_though_its_fork_lives(upper_repository: Path):
    body = "child = os.fork(); child and print('fork', child, flush=True); time.sleep(600)"
    with ending(python(IN_A_SCRIPT.format(body=body), upper_repository)) as parent:
        fork = int(read_until(parent, "fork").split()[-1])
        try:
            parent.kill()
            parent.wait()
            wait_for(lambda: processes_of(upper_repository) == [fork])
        finally:
            os.kill(fork, signal.SIGKILL)


def test_a_forked_child_does_not_stop_it(upper_repository: Path):
    body = (
        "child = os.fork()\n"
        "    if child == 0: server.stop(); os._exit(0)\n"
        "    os.waitpid(child, 0); time.sleep(0.5); print('still', server.is_running, flush=True)\n"
    )
    with ending(python(IN_A_SCRIPT.format(body=body), upper_repository)) as parent:
        assert "still True" in read_until(parent, "still")
        assert parent.wait(PATIENCE) == 0
    assert processes_of(upper_repository) == []


def test_a_killed_guard_leaves_nothing(upper_repository: Path):
    with LocalServer(upper_repository) as server:
        name = name_of(upper_repository)
        guard = next(pid for pid in processes_of(upper_repository) if b"guard.py" in command_of(pid))
        os.kill(guard, signal.SIGKILL)
        assert server.wait(PATIENCE) == 128 + signal.SIGKILL
        wait_for(lambda: not processes_of(upper_repository))
    assert files_of(name) == []


def test_a_killed_tritonserver_is_noticed_and_leaves_nothing(upper_repository: Path):
    with LocalServer(upper_repository) as server:
        name = name_of(upper_repository)
        assert server.wait(0.1) is None
        os.kill(tritonserver_of(upper_repository), signal.SIGKILL)
        assert server.wait(PATIENCE) == 128 + signal.SIGKILL
        assert not server.is_running
        assert processes_of(upper_repository) == []
        assert files_of(name) == []
