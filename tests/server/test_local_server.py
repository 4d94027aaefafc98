"""LocalServer with a real tritonserver."""

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from client_sdk._errors import InvalidArgument, ServerStartError
from client_sdk._local_server import CLOSED_ENDPOINTS, LocalServer
from tests.server.local_servers import (
    BROKEN,
    NEVER_ANSWERS,
    SLOW_TO_START,
    UPPER,
    command_of,
    ending,
    files_of,
    free_ports,
    http_request,
    make_model,
    name_of,
    processes_of,
    python,
    read_until,
    tritonserver_of,
    upper_by_http,
    wait_for,
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    make_model(path, "upper", UPPER)
    return path


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    path = tmp_path_factory.mktemp("shared") / "models"
    make_model(path, "upper", UPPER)
    with LocalServer(path) as server:
        yield server


@contextlib.contextmanager
def grpc_client(server: LocalServer) -> Iterator[triton_grpc.InferenceServerClient]:
    client = triton_grpc.InferenceServerClient(server.grpc_url.removeprefix("grpc://"))
    with contextlib.closing(client):
        yield client


# Serving

# An IPv4 address in an IPv6 socket, as gRPC has it, in the kernel's notation.
MAPPED_IPV4 = "0000000000000000FFFF0000"


def test_it_answers_at_each_of_its_addresses(shared_server: LocalServer):
    assert shared_server.is_running
    assert shared_server.http_url.startswith("http://127.0.0.1:")
    assert upper_by_http(shared_server, "text") == "TEXT"
    with grpc_client(shared_server) as client:
        assert client.is_model_ready("upper")
    address, _, path = shared_server.metrics_url.removeprefix("http://").partition("/")
    assert b"nv_inference_count" in http_request(address, "GET", f"/{path}")[1]


def test_it_listens_on_loopback_alone(shared_server: LocalServer):
    ports = {int(url.rpartition(":")[2]) for url in (shared_server.http_url, shared_server.grpc_url)}
    ports.add(int(shared_server.metrics_url.removesuffix("/metrics").rpartition(":")[2]))
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, port = local.partition(":")
            if state == "0A" and int(port, 16) in ports:
                listening.add((address.removeprefix(MAPPED_IPV4), int(port, 16)))
    assert listening == {("0100007F", port) for port in ports}


def test_what_operators_need_is_open(shared_server: LocalServer):
    for path in (
        "/v2",
        "/v2/health/live",
        "/v2/models/upper",
        "/v2/models/upper/config",
        "/v2/models/upper/stats",
    ):
        assert http_request(shared_server.http_url, "GET", path)[0] == 200, path


CLOSED_PATHS = {
    "model-repository": [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/upper/unload"),
        ("POST", "/v2/repository/models/upper/load"),
    ],
    "shared-memory": [
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/r/register"),
        ("GET", "/v2/cudasharedmemory/status"),
    ],
    "trace": [("GET", "/v2/trace/setting"), ("POST", "/v2/trace/setting")],
    "logging": [("GET", "/v2/logging"), ("POST", "/v2/logging")],
}
CLOSED_CALLS: dict[str, Callable[[triton_grpc.InferenceServerClient], object]] = {
    "model-repository": lambda client: client.get_model_repository_index(),
    "shared-memory": lambda client: client.get_system_shared_memory_status(),
    "trace": lambda client: client.get_trace_settings(),
    "logging": lambda client: client.get_log_settings(),
}


@pytest.mark.parametrize("endpoint", CLOSED_ENDPOINTS)
def test_endpoints_that_change_the_server_are_closed(shared_server: LocalServer, endpoint: str):
    for method, path in CLOSED_PATHS[endpoint]:
        assert http_request(shared_server.http_url, method, path, {})[0] == 403, path
    with grpc_client(shared_server) as client, pytest.raises(InferenceServerException, match="restricted"):
        CLOSED_CALLS[endpoint](client)


def test_the_key_that_anybody_can_read_in_the_list_of_processes_opens_nothing(shared_server: LocalServer):
    host, _, port = shared_server.http_url.removeprefix("http://").partition(":")
    arguments = command_of(tritonserver_of(shared_server.model_repository)).split(b"\0")
    name, value = next(
        argument.rpartition(b":")[2].split(b"=")
        for argument in arguments
        if argument.startswith(b"--http-restricted-api")
    )
    assert value.endswith(b"\n")
    for sent in (value, value.strip(), value + b" ", value.strip() + b"\r\n ", value.strip() + b"%0a"):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            request = b"POST /v2/repository/index HTTP/1.1\r\nHost: h\r\n%s: %s\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(request % (name, sent))
            # A header that cannot be parsed ends the connection.
            assert not connection.recv(1024).startswith(b"HTTP/1.1 200"), sent


def test_endpoints_that_were_asked_for_are_open_and_the_others_closed(repository: Path):
    with LocalServer(repository, open_endpoints=["model-repository", "logging"]) as server:
        assert json.loads(http_request(server.http_url, "POST", "/v2/repository/index", {})[1]) == [
            {"name": "upper", "version": "1", "state": "READY"}
        ]
        assert http_request(server.http_url, "GET", "/v2/logging")[0] == 200
        assert http_request(server.http_url, "GET", "/v2/trace/setting")[0] == 403
        with grpc_client(server) as client:
            client.unload_model("upper")
            wait_for(lambda: not client.is_model_ready("upper"))
            client.load_model("upper")
            assert client.is_model_ready("upper")
            with pytest.raises(InferenceServerException, match="restricted"):
                client.get_trace_settings()


def test_it_listens_on_another_address_when_told_to(repository: Path, tmp_path: Path):
    with LocalServer(repository, host="::1", log=tmp_path / "log") as server:
        assert server.grpc_url.startswith("grpc://[::1]:")
        assert upper_by_http(server, "text") == "TEXT"
        with grpc_client(server) as client:
            assert client.is_server_ready()
    assert "Started HTTPService at ipv6:::1" in (tmp_path / "log").read_text()


# Stopping


def test_nothing_is_left_after_a_stop_and_it_can_start_again(repository: Path):
    server = LocalServer(repository)
    descriptors = []
    for _ in range(2):
        with server:
            assert len(processes_of(repository)) == 3  # the guard, tritonserver and a Python backend
            name = name_of(repository)
            assert files_of(name)
            upper_by_http(server, "text")
        assert not server.is_running
        assert processes_of(repository) == []
        assert files_of(name) == []
        descriptors.append(len(os.listdir("/proc/self/fd")))
    assert descriptors[0] == descriptors[1]
    assert any("successfully loaded 'upper'" in line for line in server.log_lines())
    server.stop()  # a second time does nothing


def test_nothing_is_left_after_an_exception(repository: Path):
    with pytest.raises(ZeroDivisionError), LocalServer(repository):
        name = name_of(repository)
        _ = 1 / 0
    assert processes_of(repository) == []
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
    assert time.monotonic() - started < 20
    assert processes_of(tmp_path) == []
    assert files_of(name) == []
    caller.join()


def _answer_or_not(server: LocalServer) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
        upper_by_http(server, "text")


IN_A_SCRIPT = """
import os, sys, time
from client_sdk._local_server import LocalServer
with LocalServer(sys.argv[1]) as server:
    {body}
"""


def test_a_killed_parent_leaves_nothing(repository: Path):
    with ending(python(IN_A_SCRIPT.format(body="print('up', flush=True); time.sleep(60)"), repository)) as parent:
        read_until(parent, "up")
        name = name_of(repository)
        assert files_of(name)
        parent.kill()
        parent.wait()
        wait_for(lambda: not processes_of(repository))
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


def test_a_killed_parent_leaves_nothing_though_its_fork_lives(repository: Path):
    body = "child = os.fork(); child and print('fork', child, flush=True); time.sleep(60)"
    with ending(python(IN_A_SCRIPT.format(body=body), repository)) as parent:
        fork = int(read_until(parent, "fork").split()[-1])
        try:
            parent.kill()
            parent.wait()
            wait_for(lambda: processes_of(repository) == [fork])
        finally:
            os.kill(fork, signal.SIGKILL)


def test_a_forked_child_does_not_stop_it(repository: Path):
    body = (
        "child = os.fork()\n"
        "    if child == 0: server.stop(); os._exit(0)\n"
        "    os.waitpid(child, 0); time.sleep(0.5); print('still', server.is_running, flush=True)\n"
    )
    with ending(python(IN_A_SCRIPT.format(body=body), repository)) as parent:
        assert "still True" in read_until(parent, "still")
        assert parent.wait(20) == 0
    assert processes_of(repository) == []


def test_a_killed_guard_leaves_nothing(repository: Path):
    with LocalServer(repository) as server:
        name = name_of(repository)
        guard = next(pid for pid in processes_of(repository) if b"_guard.py" in command_of(pid))
        os.kill(guard, signal.SIGKILL)
        assert server.wait(10) == 128 + signal.SIGKILL
        wait_for(lambda: not processes_of(repository))
    assert files_of(name) == []


def test_a_killed_tritonserver_is_noticed_and_leaves_nothing(repository: Path):
    with LocalServer(repository) as server:
        name = name_of(repository)
        assert server.wait(0.1) is None
        os.kill(tritonserver_of(repository), signal.SIGKILL)
        assert server.wait(10) == 128 + signal.SIGKILL
        assert not server.is_running
        assert processes_of(repository) == []
        assert files_of(name) == []


# Not starting


def test_a_broken_model_is_told_with_its_reason_and_not_much_else(repository: Path):
    make_model(repository, "broken", BROKEN)
    with pytest.raises(ServerStartError) as error, LocalServer(repository):
        pass
    message = str(error.value)
    assert "'broken'" in message
    assert message.count("ValueError: no weights in this directory") == 1
    assert f"{repository}/broken/1/model.py(4): initialize" in message
    assert len(message.splitlines()) < 8
    assert processes_of(repository) == []


def test_a_model_without_its_file_is_told_at_once(repository: Path):
    (repository / "upper" / "1" / "model.py").unlink()
    started = time.monotonic()
    with pytest.raises(ServerStartError, match="Python model file not found"), LocalServer(repository):
        pass
    assert time.monotonic() - started < 10  # tritonserver itself would wait for ever
    assert processes_of(repository) == []


def test_a_wrong_config_is_told_with_its_line(repository: Path):
    (repository / "upper" / "config.pbtxt").write_text('backend: "python"\nmax_batch_size: many\n')
    with pytest.raises(ServerStartError, match=r"2:17: .*\n.*'upper'"), LocalServer(repository):
        pass


def test_the_deadline_for_starting_is_kept(tmp_path: Path):
    make_model(tmp_path, "upper", UPPER)
    make_model(tmp_path, "slow", SLOW_TO_START)
    started = time.monotonic()
    with (
        pytest.raises(ServerStartError, match=r"not ready within 2 s \(still loading: slow\)"),
        LocalServer(tmp_path, startup_timeout=2),
    ):
        pass
    assert 2 <= time.monotonic() - started < 6
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("name", ["http", "grpc", "metrics"])
def test_a_port_in_use_is_named(repository: Path, name: str):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = LocalServer(repository, **{f"{name}_port": port})
        with pytest.raises(ServerStartError, match=f"{name} port {port} is already in use"):
            server.start()


def test_a_port_taken_while_models_load_is_named(tmp_path: Path):
    make_model(tmp_path, "upper", UPPER.replace("def execute", START_SLOWLY + "    def execute"))
    port = free_ports()[0]
    server = LocalServer(tmp_path, http_port=port)
    with contextlib.ExitStack() as stack:

        def take_port() -> None:
            wait_for(lambda: len(processes_of(tmp_path)) == 3)
            stack.enter_context(socket.create_server(("127.0.0.1", port)))

        thread = threading.Thread(target=take_port)
        thread.start()
        # One port is free to choose, so it tries again; the one that was given is then known to be taken.
        with pytest.raises(ServerStartError, match=f"{port}.* already in use"):
            server.start()
        thread.join()
    assert processes_of(tmp_path) == []


START_SLOWLY = """def initialize(self, args):
        import time
        time.sleep(2)

"""


def test_starting_twice_is_refused(shared_server: LocalServer):
    with pytest.raises(ServerStartError, match="stop it first"):
        shared_server.start()
    assert shared_server.is_running


def test_an_unknown_option_of_tritonserver_is_named(repository: Path):
    with (
        pytest.raises(ServerStartError, match="unrecognized option '--nonsense'") as error,
        LocalServer(repository, extra_args=["--nonsense"]),
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
        ({"http_port": 9000, "grpc_port": 9000}, "must differ"),
        ({"startup_timeout": 0}, "startup_timeout is 0"),
        ({"extra_args": ["--http-port=1"]}, "use http_port"),
        ({"host": "no such host"}, "'no such host' is not an address"),
    ],
)
def test_wrong_arguments_are_refused_at_once(repository: Path, options: dict, message: str):
    with pytest.raises(InvalidArgument, match=message):
        LocalServer(repository, **options)


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
    with pytest.raises(InvalidArgument, match=r"holds \.cache, and tritonserver takes every directory for a model"):
        LocalServer(tmp_path / "empty").start()
