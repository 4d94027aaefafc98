"""A server that asks for a key: real servers, and clients with and without it."""

import http.client
import json
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.service_pb2 as messages
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
from tritonclient.utils import InferenceServerException

from client_sdk import AccessDenied, Client, InvalidArgument, LocalServer
from tests.support.patience import PATIENCE
from tests.support.servers.local_servers import (
    command_of,
    ending,
    free_ports,
    http_request,
    processes_of,
    read_until,
    serve,
    tritonserver_of,
    wait_for,
)
from tests.support.servers.moody_model import make_moody_repository
from tests.support.servers.supervised import wait_for_the_return

KEY = secrets.token_urlsafe(24)
OPEN_TO_ALL = ["/v2/health/live", "/v2/health/ready", "/v2/models/bert/ready"]
WITH_KEY = ["/v2", "/v2/models/bert", "/v2/models/bert/config", "/v2/models/bert/stats", "/v2/models/stats"]
TEXT = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["four"]}]}


@pytest.fixture(scope="module")
def keyed(moody_repository: Path) -> Iterator[LocalServer]:
    with LocalServer(moody_repository, api_key=KEY, open_endpoints=["logging"]) as server:
        yield server


def get(server: LocalServer, path: str, key: str | None = None) -> int:
    return request(server, "GET", path, key)[0]


def request(server: LocalServer, method: str, path: str, key: str | None, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=PATIENCE)
    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", OPEN_TO_ALL)
def test_probes_need_no_key(keyed: LocalServer, path: str):
    assert get(keyed, path) == 200


@pytest.mark.parametrize("path", [*WITH_KEY, "/v2/logging"])
def test_what_tells_about_models_needs_the_key(keyed: LocalServer, path: str):
    assert get(keyed, path) == 403
    assert get(keyed, path, "x" * 20) == 403
    assert get(keyed, path, KEY) == 200


def test_inference_needs_the_key_over_http(keyed: LocalServer):
    path = "/v2/models/bert/infer"
    for wrong in (None, "x" * 20, KEY[:-1], KEY + "x", KEY.swapcase()):
        status, body = request(keyed, "POST", path, wrong, TEXT)
        assert status == 403 and KEY.encode() not in body
    assert request(keyed, "POST", path, KEY, TEXT)[0] == 200


def test_inference_needs_the_key_over_grpc(keyed: LocalServer):
    with triton_grpc.InferenceServerClient(keyed.grpc_url.removeprefix("grpc://")) as client:
        text = triton_grpc.InferInput("TEXT", [1, 1], "BYTES")
        text.set_data_from_numpy(np.array([[b"four"]], object))
        for value in (None, f"Bearer {KEY}x", KEY):
            headers = {"triton-grpc-protocol-authorization": value} if value else None
            with pytest.raises(InferenceServerException, match="restricted"):
                client.infer("bert", [text], headers=headers)
            with pytest.raises(InferenceServerException, match="restricted"):
                client.get_model_config("bert", headers=headers)
        right = {"triton-grpc-protocol-authorization": f"Bearer {KEY}"}
        assert client.infer("bert", [text], headers=right).as_numpy("EMBEDDING").tolist() == [[4.0]]
        assert client.is_server_ready() and client.is_model_ready("bert")


def test_the_client_has_its_way_with_the_key_and_no_other(keyed: LocalServer):
    for url in (keyed.grpc_url, keyed.http_url):
        with Client(url, api_key=KEY) as client:
            assert client.encode(["one", "three"])[:, 0].tolist() == [3, 5]
        for wrong in (None, "x" * 20):
            with Client(url, api_key=wrong) as client, pytest.raises(AccessDenied):
                client.encode("one")


OTHER_WAYS = [
    ("POST", "/v2/models/bert/versions/1/infer"),
    ("POST", "/v2/models/bert/generate"),
    ("POST", "/v2/models/bert/generate_stream"),
    ("POST", "/v2/models/bert/versions/1/generate"),
    ("POST", "//v2/models/bert/infer"),
    ("POST", "/v2//models/bert/infer"),
    ("POST", "/v2/models/bert/infer/"),
    ("POST", "/v2/models/bert/infer?key=x"),
    ("POST", "/v2/models/%62ert/infer"),
    ("POST", "/V2/models/bert/infer"),
    ("POST", "/v2/./models/bert/infer"),
    ("POST", "/v2/health/../models/bert/infer"),
    ("POST", "/invocations"),
    ("POST", "/models/bert/invoke"),
    ("POST", "/v1/models/bert:predict"),
    ("POST", "/predict"),
    ("GET", "/v2/models/bert/versions/1/config"),
    ("GET", "/v2/models/bert/versions/1/stats"),
    ("GET", "/v2/models/bert/versions/1"),
    ("GET", "/v2/"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize(("method", "path"), OTHER_WAYS)
def test_no_other_path_leads_past_the_key(keyed: LocalServer, method: str, path: str):
    body = {"text_input": "four", **TEXT} if method == "POST" else None
    assert request(keyed, method, path, None, body)[0] >= 400


def test_no_other_call_leads_past_the_key(keyed: LocalServer):
    """Every method of the service that is not about health, streams among them."""
    infer = messages.ModelInferRequest(model_name="bert")
    infer.inputs.add(name="TEXT", datatype="BYTES", shape=[1, 1]).contents.bytes_contents.append(b"four")
    requests = {
        name.removesuffix("Request"): getattr(messages, name)()
        for name in dir(messages)
        if name.endswith("Request") and name.removesuffix("Request") not in ("ServerLive", "ServerReady", "ModelReady")
    }
    requests["ModelInfer"] = infer
    assert len(requests) >= 15
    with grpc.insecure_channel(keyed.grpc_url.removeprefix("grpc://")) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for name, message in requests.items():
            with pytest.raises(grpc.RpcError) as error:
                getattr(stub, name)(message, timeout=PATIENCE)
            assert "is restricted" in error.value.details(), name
        with pytest.raises(grpc.RpcError, match="is restricted"):
            list(stub.ModelStreamInfer(iter([infer]), timeout=PATIENCE))


def test_endpoints_that_were_not_asked_for_are_closed_to_the_key_too(keyed: LocalServer):
    assert request(keyed, "POST", "/v2/repository/index", KEY, {})[0] == 403
    assert get(keyed, "/v2/trace/setting", KEY) == 403


def test_no_list_of_processes_and_no_log_shows_the_key(keyed: LocalServer, moody_repository: Path):
    processes = processes_of(moody_repository)
    assert len(processes) == 6  # the guard, tritonserver and four instances of the step
    for process in processes:
        assert KEY.encode() not in command_of(process)
        if process != tritonserver_of(moody_repository):
            assert KEY.encode() not in Path(f"/proc/{process}/environ").read_bytes()
    assert KEY not in "\n".join(keyed.log_lines())
    assert KEY not in repr(keyed) + repr(keyed._settings)


def test_a_supervised_server_asks_for_the_key_after_a_restart(tmp_path: Path, supervisor_log: pytest.LogCaptureFixture):
    make_moody_repository(tmp_path)  # not that of `keyed`, which still runs
    with LocalServer(tmp_path, api_key=KEY, supervise=True) as server:
        os.kill(tritonserver_of(tmp_path), signal.SIGKILL)
        wait_for_the_return(supervisor_log)
        with Client(server.grpc_url, api_key=KEY) as client:
            wait_for(lambda: server.is_running and client.is_ready())
        assert request(server, "POST", "/v2/models/bert/infer", None, TEXT)[0] == 403
        assert request(server, "POST", "/v2/models/bert/infer", KEY, TEXT)[0] == 200
        assert KEY.encode() not in command_of(tritonserver_of(tmp_path))


@pytest.mark.parametrize(
    "key", ["", "short", "x" * 15, "with a space in it 12345", "ümlaut-ümlaut-ümlaut", "a:b,c=d" * 4]
)
def test_a_key_that_is_weak_or_cannot_be_sent_is_refused_unshown(moody_repository: Path, key: str):
    with pytest.raises(InvalidArgument, match="api_key") as error:
        LocalServer(moody_repository, api_key=key)
    assert not key or key not in str(error.value)


def test_serve_takes_the_key_from_a_file_or_from_the_environment(moody_repository: Path, tmp_path: Path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    for options, environment in (([f"--api-key-file={file}"], {}), ([], {"CLIENT_SDK_API_KEY": KEY})):
        ports = free_ports()
        url = f"http://127.0.0.1:{ports[0]}"
        with ending(serve(moody_repository, *options, ports=ports, **environment)) as process:
            printed = read_until(process, "Ctrl-C")
            assert "clients must send the key" in printed and KEY not in printed
            assert http_request(url, "GET", "/v2")[0] == 403
            assert http_request(url, "GET", "/v2/health/ready")[0] == 200
            process.terminate()
            assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("", "is empty"),
        (f"{KEY}\nshort\n", "has 2 lines"),
        ("short\n", "at least 16 characters"),
    ],
    ids=["absent", "empty", "two lines", "short"],
)
def test_serve_refuses_a_key_file_that_holds_no_key(
    moody_repository: Path, tmp_path: Path, content: str | None, message: str
):
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    process = serve(moody_repository, f"--api-key-file={file}")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert message in errors and len(errors.splitlines()) == 1 and "short" not in errors
