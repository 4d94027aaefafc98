"""What a LocalServer cannot start, or is not to: an error that says why, and nothing left running."""

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from client_sdk._errors import InvalidArgument, ServerStartError
from client_sdk._server.local_server import LocalServer
from tests.support.patience import PATIENCE, taking_at_least
from tests.support.servers.local_servers import (
    BROKEN,
    SLOW_TO_START,
    UPPER,
    command_of,
    ending,
    free_ports,
    make_model,
    processes_of,
    python,
    tritonserver_of,
    upper_by_http,
    wait_for,
)


def test_a_broken_model_is_told_with_its_reason_and_not_much_else(upper_repository: Path):
    make_model(upper_repository, "broken", BROKEN)
    with pytest.raises(ServerStartError) as error, LocalServer(upper_repository):
        pass
    message = str(error.value)
    assert "'broken'" in message
    assert message.count("ValueError: no weights in this directory") == 1
    assert f"{upper_repository}/broken/1/model.py(4): initialize" in message
    assert len(message.splitlines()) < 8
    assert processes_of(upper_repository) == []


def test_a_model_without_its_file_is_told_at_once(upper_repository: Path):
    (upper_repository / "upper" / "1" / "model.py").unlink()
    started = time.monotonic()
    with pytest.raises(ServerStartError, match="Python model file not found"), LocalServer(upper_repository):
        pass
    assert time.monotonic() - started < PATIENCE  # tritonserver itself would wait for ever
    assert processes_of(upper_repository) == []


def test_a_wrong_config_is_told_with_its_line(upper_repository: Path):
    (upper_repository / "upper" / "config.pbtxt").write_text('backend: "python"\nmax_batch_size: many\n')
    with pytest.raises(ServerStartError, match=r"2:17: .*\n.*'upper'"), LocalServer(upper_repository):
        pass


def test_the_deadline_for_starting_is_kept(tmp_path: Path):
    make_model(tmp_path, "upper", UPPER)
    make_model(tmp_path, "slow", SLOW_TO_START)
    with (
        taking_at_least(2),
        pytest.raises(ServerStartError, match=r"not ready within 2 s \(still loading: slow\)"),
        LocalServer(tmp_path, startup_timeout=2),
    ):
        pass
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("name", ["http", "grpc", "metrics"])
def test_a_port_in_use_is_named(upper_repository: Path, name: str):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = LocalServer(upper_repository, **{f"{name}_port": port})
        with pytest.raises(ServerStartError, match=f"{name} port {port} is already in use"):
            server.start()


def test_a_port_taken_while_models_load_is_named(tmp_path: Path):
    taken = tmp_path / "upper" / "taken"
    make_model(
        tmp_path, "upper", UPPER.replace("def execute", START_SLOWLY.format(taken=str(taken)) + "    def execute")
    )
    port = free_ports()[0]
    server = LocalServer(tmp_path, http_port=port)
    with contextlib.ExitStack() as stack:

        def take_port() -> None:
            wait_for(lambda: len(processes_of(tmp_path)) == 3)
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
            taken.touch()

        thread = threading.Thread(target=take_port)
        thread.start()
        # One port is free to choose, so it tries again; the one that was given is then known to be taken.
        with pytest.raises(ServerStartError, match=f"{port}.* already in use"):
            server.start()
        thread.join()
    assert processes_of(tmp_path) == []


START_SLOWLY = """def initialize(self, args):
        import os, time
        while not os.path.exists({taken!r}):
            time.sleep(0.02)

"""


# What Triton takes for dead: a step that shows no life for a second while it is loaded.
STANDS_STILL = """
import os
import signal

def stand_still():
    with open(__file__ + ".loads", "ab") as loads:
        loads.write(b"x")
    if os.path.getsize(__file__ + ".loads") <= {times}:
        os.kill(os.getpid(), signal.SIGSTOP)
""" + UPPER.replace("def execute(self, requests):", "def execute(self, requests):\n        stand_still()")
WARMED_UP = """
model_warmup {
  name: "one text"
  batch_size: 1
  inputs { key: "TEXT" value { data_type: TYPE_STRING dims: 1 zero_data: true } }
}
"""


@pytest.mark.parametrize("times", [1, 2])
def test_a_server_whose_step_stood_still_while_it_was_loaded_is_started_once_more(
    tmp_path: Path, supervisor_log: pytest.LogCaptureFixture, times: int
):
    make_model(tmp_path, "upper", STANDS_STILL.format(times=times))
    with (tmp_path / "upper" / "config.pbtxt").open("a") as config:
        config.write(WARMED_UP)
    server = LocalServer(tmp_path)
    if times == 1:
        with server:
            assert upper_by_http(server, "text") == "TEXT"
            assert b"--model-load-thread-count=1" in command_of(tritonserver_of(tmp_path)).split(b"\0")
    else:
        with pytest.raises(ServerStartError, match="'upper_0_0' is not healthy|status 139"):
            server.start()
    assert sum("once more, a model at a time" in message for message in supervisor_log.messages) == 1
    assert processes_of(tmp_path) == []


def test_an_unknown_option_of_tritonserver_is_named(upper_repository: Path):
    with (
        pytest.raises(ServerStartError, match="unrecognized option '--nonsense'") as error,
        LocalServer(upper_repository, extra_args=["--nonsense"]),
    ):
        pass
    assert len(str(error.value).splitlines()) < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"open_endpoints": ["statistics"]},
            r"statistics is not one of model-repository, shared-memory, trace, logging",
        ),
        ({"http_port": 70000}, "http_port is 70000: it is from 1 to 65535"),
        ({"http_port": "8000"}, "http_port must be an int, not str"),
        ({"http_port": 9000, "grpc_port": 9000}, "must differ"),
        ({"startup_timeout": 0}, "startup_timeout must be a positive, finite number of seconds, not 0"),
        ({"startup_timeout": "60"}, "startup_timeout must be a number of seconds, not str"),
        ({"extra_args": ["--http-port=1"]}, "use http_port"),
        ({"extra_args": "--http-thread-count=16"}, r"extra_args must be a list of str, as in \['--http-thread"),
        ({"host": "no such host"}, "'no such host' is not an address"),
    ],
)
def test_wrong_arguments_are_refused_at_once(upper_repository: Path, options: dict, message: str):
    with pytest.raises(InvalidArgument, match=message):
        LocalServer(upper_repository, **options)


def test_a_repository_that_cannot_be_served_is_refused_before_anything_starts(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="'.*/nowhere' does not exist"):
        LocalServer(tmp_path / "nowhere").start()
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="'.*/file' is not a directory"):
        LocalServer(tmp_path / "file").start()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match="'.*/empty' is empty"):
        LocalServer(tmp_path / "empty").start()
    (tmp_path / "empty" / ".cache").mkdir()
    with pytest.raises(InvalidArgument, match=r"holds no model, only '\.cache' \(hidden\): .* fills it"):
        LocalServer(tmp_path / "empty").start()


LOG_TO_STDERR = """
import sys
from client_sdk import ClientError, LocalServer
try:
    with LocalServer(sys.argv[1], log="/dev/stderr"):
        print("up")
except ClientError as error:
    print(error)
"""


@pytest.mark.parametrize("broken", [True, False])
def test_reasons_are_told_at_once_though_the_log_goes_to_a_pipe(upper_repository: Path, broken: bool):
    model = upper_repository / "upper" / "1" / "model.py"
    if broken:
        model.write_text(BROKEN)
    else:
        model.unlink()  # tritonserver itself would wait for ever
    reason = "no weights in this directory" if broken else "Python model file not found"
    with ending(python(LOG_TO_STDERR, upper_repository)) as process:
        printed, log = process.communicate(timeout=60)
    assert reason in printed and reason in log
    assert processes_of(upper_repository) == []
