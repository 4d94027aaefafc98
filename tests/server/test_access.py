"""A server that asks for a key, encrypts, or says what it does: with real servers, clients and certificates."""

import http.client
import http.server
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.service_pb2 as messages
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
from tritonclient.utils import InferenceServerException

from client_sdk import AccessDenied, Client, InvalidArgument, LocalServer, ServerUnreachable
from tests.server.local_servers import (
    command_of,
    ending,
    free_ports,
    http_request,
    processes_of,
    python,
    read_until,
    tritonserver_of,
    wait_for,
)
from tests.server.moody_model import make_moody_repository

KEY = secrets.token_urlsafe(24)
OPEN_TO_ALL = ["/v2/health/live", "/v2/health/ready", "/v2/models/bert/ready"]
WITH_KEY = ["/v2", "/v2/models/bert", "/v2/models/bert/config", "/v2/models/bert/stats", "/v2/models/stats"]
TEXT = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["four"]}]}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_moody_repository(tmp_path_factory.mktemp("access"))


@pytest.fixture(scope="module")
def keyed(repository: Path) -> Iterator[LocalServer]:
    with LocalServer(repository, api_key=KEY, open_endpoints=["logging"]) as server:
        yield server


# Key


def get(server: LocalServer, path: str, key: str | None = None) -> int:
    return request(server, "GET", path, key)[0]


def request(server: LocalServer, method: str, path: str, key: str | None, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=10)
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
                getattr(stub, name)(message, timeout=10)
            assert "is restricted" in error.value.details(), name
        with pytest.raises(grpc.RpcError, match="is restricted"):
            list(stub.ModelStreamInfer(iter([infer]), timeout=10))


def test_endpoints_that_were_not_asked_for_are_closed_to_the_key_too(keyed: LocalServer):
    assert request(keyed, "POST", "/v2/repository/index", KEY, {})[0] == 403
    assert get(keyed, "/v2/trace/setting", KEY) == 403


def test_no_list_of_processes_and_no_log_shows_the_key(keyed: LocalServer, repository: Path):
    processes = processes_of(repository)
    assert len(processes) == 6  # the guard, tritonserver and four instances of the step
    for process in processes:
        assert KEY.encode() not in command_of(process)
        if process != tritonserver_of(repository):
            assert KEY.encode() not in Path(f"/proc/{process}/environ").read_bytes()
    assert KEY not in "\n".join(keyed.log_lines())
    assert KEY not in repr(keyed) + repr(keyed._settings)


def test_a_supervised_server_asks_for_the_key_after_a_restart(repository: Path):
    with LocalServer(repository, api_key=KEY, supervise=True) as server:
        first = tritonserver_of(repository)
        os.kill(first, signal.SIGKILL)
        with Client(server.grpc_url, api_key=KEY) as client:
            wait_for(lambda: server.is_running and client.is_ready())
        assert request(server, "POST", "/v2/models/bert/infer", None, TEXT)[0] == 403
        assert request(server, "POST", "/v2/models/bert/infer", KEY, TEXT)[0] == 200
        assert KEY.encode() not in command_of(tritonserver_of(repository))


@pytest.mark.parametrize(
    "key", ["", "short", "x" * 15, "with a space in it 12345", "ümlaut-ümlaut-ümlaut", "a:b,c=d" * 4]
)
def test_a_key_that_is_weak_or_cannot_be_sent_is_refused_unshown(repository: Path, key: str):
    with pytest.raises(InvalidArgument, match="api_key") as error:
        LocalServer(repository, api_key=key)
    assert not key or key not in str(error.value)


SERVE = "import sys; from client_sdk.__main__ import main; sys.exit(main(['serve', *sys.argv[1:]]))"


def serve(repository: Path, *options: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
    """The process, and the address for HTTP."""
    http_port, grpc_port, metrics_port = free_ports()
    command = [f"--http-port={http_port}", f"--grpc-port={grpc_port}", f"--metrics-port={metrics_port}", *options]
    process = python(SERVE, f"--model-repository={repository}", *command, environment=environment)
    return process, f"http://127.0.0.1:{http_port}"


def test_serve_takes_the_key_from_a_file_or_from_the_environment(repository: Path, tmp_path: Path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    for options, environment in (([f"--api-key-file={file}"], {}), ([], {"CLIENT_SDK_API_KEY": KEY})):
        process, url = serve(repository, *options, **environment)
        with ending(process):
            printed = read_until(process, "Ctrl-C")
            assert "clients must send the key" in printed and KEY not in printed
            assert http_request(url, "GET", "/v2")[0] == 403
            assert http_request(url, "GET", "/v2/health/ready")[0] == 200
            process.terminate()
            assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), ("", "its first line is empty"), ("short\n", "at least 16 characters")],
)
def test_serve_refuses_a_key_file_that_holds_no_key(
    repository: Path, tmp_path: Path, content: str | None, message: str
):
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    process, _ = serve(repository, f"--api-key-file={file}")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert message in errors and len(errors.splitlines()) == 1 and "short" not in errors


# Encryption


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Authorities `ca` and `other`, and server, client and stranger, the last by the other authority."""
    folder = tmp_path_factory.mktemp("certificates")
    assert shutil.which("openssl"), "openssl makes the certificates: apt install openssl"

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    new = ["-newkey", "rsa:2048", "-nodes", "-keyout"]
    for ca in ("ca", "other"):
        openssl("req", "-x509", *new, f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}")
    for name, ca in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        openssl("req", *new, f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ["-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-extfile", "names"]
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    return folder


def test_grpc_is_encrypted_with_the_given_certificate(repository: Path, certificates: Path):
    files = {"tls_certificate": certificates / "server.pem", "tls_key": certificates / "server.key"}
    with LocalServer(repository, **files, api_key=KEY) as server:
        assert server.grpc_url.startswith("grpcs://127.0.0.1:")
        with Client(server.grpc_url, root_certificates=certificates / "ca.pem", api_key=KEY) as client:
            assert client.encode("four").tolist() == [4]
        with (
            Client(server.grpc_url, root_certificates=certificates / "other.pem", api_key=KEY) as client,
            pytest.raises(ServerUnreachable),
        ):
            client.encode("four", timeout=5)
        with Client(server.grpc_url.replace("grpcs", "grpc"), api_key=KEY) as client, pytest.raises(ServerUnreachable):
            client.encode("four", timeout=5)


def test_clients_need_a_certificate_where_an_authority_is_named(repository: Path, certificates: Path):
    files = {
        "tls_certificate": certificates / "server.pem",
        "tls_key": certificates / "server.key",
        "tls_client_ca": certificates / "ca.pem",
    }
    with LocalServer(repository, **files) as server:

        def encode(name: str | None) -> list[float]:
            own = {"client_certificate": certificates / f"{name}.pem", "client_key": certificates / f"{name}.key"}
            with Client(server.grpc_url, root_certificates=certificates / "ca.pem", **(own if name else {})) as client:
                return client.encode("four", timeout=5).tolist()

        assert encode("client") == [4]
        for name in (None, "stranger"):
            with pytest.raises(ServerUnreachable):
                encode(name)


def test_http_stays_on_this_machine_where_grpc_is_encrypted(repository: Path, certificates: Path):
    files = {"tls_certificate": certificates / "server.pem", "tls_key": certificates / "server.key"}
    with LocalServer(repository, host="0.0.0.0", **files) as server:
        port = int(server.http_url.rpartition(":")[2])
        assert http_request(server.http_url, "GET", "/v2/health/ready")[0] == 200
        listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
        assert f"0100007F:{port:04X}" in listening and f"00000000:{port:04X}" not in listening


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"tls_certificate": "server.pem"}, "belong together"),
        ({"tls_client_ca": "ca.pem"}, "belong together"),
        ({"tls_certificate": "server.pem", "tls_key": "nothing.key"}, "nothing.key' cannot be read: No such file"),
    ],
)
def test_files_that_do_not_make_an_encrypted_server_are_refused(
    repository: Path, certificates: Path, names: dict[str, str], message: str
):
    with pytest.raises(InvalidArgument, match=message):
        LocalServer(repository, **{name: certificates / file for name, file in names.items()})


def test_serve_says_that_grpc_is_encrypted(repository: Path, certificates: Path):
    options = [f"--tls-cert={certificates / 'server.pem'}", f"--tls-key={certificates / 'server.key'}"]
    process, _ = serve(repository, "--listen=0.0.0.0", *options)
    with ending(process):
        printed = read_until(process, "Ctrl-C")
        assert "grpcs://127.0.0.1:" in printed
        assert "gRPC is encrypted, metrics are not, and HTTP is for this machine alone" in printed
        process.terminate()
        assert process.wait(20) == 0


# Traces


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes OTLP over HTTP, in JSON, as Triton sends it."""

    spans: list[dict] = []
    services: set[str] = set()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/json"
        for resource in body["resourceSpans"]:
            attributes = {a["key"]: a["value"].get("stringValue") for a in resource["resource"]["attributes"]}
            self.services.add(attributes["service.name"])
            for scope in resource["scopeSpans"]:
                self.spans.extend(scope["spans"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[str]:
    Collector.spans.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{receiver.server_port}"
        receiver.shutdown()
        thread.join()


TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def test_a_request_is_traced_through_each_step_to_a_collector(bert_repository: Path, collector: str):
    with LocalServer(bert_repository, trace=f"otlp={collector}", trace_rate=0) as server:
        headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
        with Client(server.http_url, headers=headers) as traced, Client(server.http_url) as untraced:
            untraced.encode("nobody asked for a trace of this one")
            traced.encode("where does the time go?")
        wait_for(lambda: len([span for span in Collector.spans if span["name"] == "InferRequest"]) >= 1)
    assert Collector.services == {"bert-on-triton"}
    assert {span["traceId"].lower() for span in Collector.spans} == {TRACE_ID}
    names = {span["name"] for span in Collector.spans}
    assert {"bert", "bert_tokenizer", "bert_encoder", "bert_pooling", "compute"} <= names
    by_id = {span["spanId"]: span for span in Collector.spans}
    step = next(span for span in Collector.spans if span["name"] == "bert_encoder")
    assert by_id[step["parentSpanId"]]["name"] == "bert"
    assert int(step["startTimeUnixNano"]) < int(step["endTimeUnixNano"])


def test_one_request_in_so_many_is_traced(repository: Path, collector: str):
    with LocalServer(repository, trace=f"otlp={collector}/v1/traces", trace_rate=5) as server:
        with Client(server.grpc_url) as client:
            for _ in range(20):
                client.encode("a text")
        wait_for(lambda: sum(span["name"] == "InferRequest" for span in Collector.spans) >= 4)
    assert sum(span["name"] == "InferRequest" for span in Collector.spans) == 4


def test_a_collector_that_is_away_harms_no_request(repository: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    options = {"trace": f"otlp=http://127.0.0.1:{port}", "trace_rate": 1}
    with LocalServer(repository, **options) as server, Client(server.grpc_url) as client:
        for _ in range(50):
            assert client.encode("four").tolist() == [4]


@pytest.mark.parametrize("trace", ["http://localhost:4318", "otlp=localhost:4318", "otlp=", "zipkin=http://x"])
def test_a_trace_that_is_not_understood_is_refused(repository: Path, trace: str):
    with pytest.raises(InvalidArgument, match="such as otlp=http://localhost:4318/v1/traces"):
        LocalServer(repository, trace=trace)
