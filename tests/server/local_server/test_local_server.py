"""LocalServer with a real tritonserver."""

import contextlib
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from client_sdk._errors import ServerStartError
from client_sdk._server.local_server import CLOSED_ENDPOINTS, LocalServer
from perf.processes import server_processes
from tests.support.patience import PATIENCE
from tests.support.servers.local_servers import (
    UPPER,
    command_of,
    http_request,
    make_model,
    tritonserver_of,
    upper_by_http,
    wait_for,
)


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


def huge_pages_are_had() -> bool:
    libc, version = (os.confstr("CS_GNU_LIBC_VERSION") or "? 0").split()
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return (
        libc == "glibc"
        and tuple(map(int, version.split("."))) >= (2, 35)
        and setting.exists()
        and "[never]" not in setting.read_text()
    )


@pytest.mark.skipif(not huge_pages_are_had(), reason="this system, or its glibc, has no huge pages on request")
def test_weights_are_in_huge_pages(server: LocalServer, repository: Path):
    (encoder,) = [
        pid for pid, name in server_processes(tritonserver_of(repository)).items() if name.startswith("bert_encoder")
    ]
    (huge,) = re.findall(r"AnonHugePages: +(\d+) kB", Path(f"/proc/{encoder}/smaps_rollup").read_text())
    weights = (repository / "bert_encoder" / "1" / "model.onnx").stat().st_size
    assert int(huge) * 1024 > weights / 2


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
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            request = b"POST /v2/repository/index HTTP/1.1\r\nHost: h\r\n%s: %s\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(request % (name, sent))
            # A header that cannot be parsed ends the connection.
            assert not connection.recv(1024).startswith(b"HTTP/1.1 200"), sent


def test_endpoints_that_were_asked_for_are_open_and_the_others_closed(upper_repository: Path):
    with LocalServer(upper_repository, open_endpoints=["model-repository", "logging"]) as server:
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


def test_it_listens_on_another_address_when_told_to(upper_repository: Path, tmp_path: Path):
    with LocalServer(upper_repository, host="::1", log=tmp_path / "log") as server:
        assert server.grpc_url.startswith("grpc://[::1]:")
        assert upper_by_http(server, "text") == "TEXT"
        with grpc_client(server) as client:
            assert client.is_server_ready()
    assert "Started HTTPService at ipv6:::1" in (tmp_path / "log").read_text()


def test_starting_twice_is_refused(shared_server: LocalServer):
    with pytest.raises(ServerStartError, match="stop it first"):
        shared_server.start()
    assert shared_server.is_running
