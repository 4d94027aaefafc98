"""A server, and a gateway in front of it, that send traces to a collector."""

import base64
import http.client
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from client_sdk import Client, InvalidArgument, LocalServer
from tests.support.patience import PATIENCE
from tests.support.servers.gateways import RunningGateway, running_gateway
from tests.support.servers.local_servers import wait_for


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes OTLP over HTTP, in JSON as Triton sends it, or in protobuf as the gateway does."""

    spans: list[dict] = []
    services: set[str] = set()

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/traces"
        body = read_protobuf(sent) if "protobuf" in self.headers["Content-Type"] else json.loads(sent)
        for resource in body["resourceSpans"]:
            attributes = {a["key"]: a["value"].get("stringValue") for a in resource["resource"]["attributes"]}
            self.services.add(attributes["service.name"])
            for scope in resource["scopeSpans"]:
                self.spans.extend(scope["spans"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def read_protobuf(sent: bytes) -> dict:
    """As JSON has it: of numbers by name, and ids in hexadecimal."""
    body = json_format.MessageToDict(ExportTraceServiceRequest.FromString(sent))
    for span in (span for r in body["resourceSpans"] for s in r["scopeSpans"] for span in s["spans"]):
        for name in {"traceId", "spanId", "parentSpanId"} & {*span}:
            span[name] = base64.b64decode(span[name]).hex()
    return body


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


TRIES = 6

CALLED, PASSED_ON = "1" * 32, "2" * 32
"""Traces of requests to a gateway that makes spans of its own, and to one that does not."""


def requested(trace: str) -> list[dict]:
    """The spans of inferences that are of a trace."""
    return [span for span in Collector.spans if (span["name"], span["traceId"].lower()) == ("InferRequest", trace)]


def traced_by(gateway: RunningGateway, trace: str) -> None:
    """Ask until a trace has come: Triton sends one once, and drops what a busy collector does not take in time."""
    for _ in range(TRIES):
        asked(gateway, trace)
        with suppress(AssertionError):
            wait_for(lambda: requested(trace), PATIENCE / TRIES)
            return
    raise AssertionError(f"no trace {trace}")


def asked(gateway: RunningGateway, trace: str) -> None:
    body = json.dumps({"input": "a text that is nobody's business"})
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert gateway.send("POST", "/v1/embeddings?of=business", body, **headers).status == 200


def test_a_request_is_traced_through_each_step_to_a_collector(
    bert_repository: Path, collector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with LocalServer(bert_repository, trace=f"otlp={collector}", trace_rate=0) as server:
        headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
        with Client(server.http_url, headers=headers) as traced, Client(server.http_url) as untraced:
            untraced.encode("nobody asked for a trace of this one")
            traced.encode("where does the time go?")
        wait_for(lambda: requested(TRACE_ID))
        assert Collector.services == {"bert-on-triton"}
        assert {span["traceId"].lower() for span in Collector.spans} == {TRACE_ID}
        with running_gateway(tmp_path, server.grpc_url) as gateway:
            traced_by(gateway, PASSED_ON)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "gateway")
        with running_gateway(tmp_path, server.grpc_url) as gateway:
            traced_by(gateway, CALLED)
    passed, called = requested(PASSED_ON)[0], requested(CALLED)[0]
    assert passed["parentSpanId"].lower() == "b7ad6b7169203331"
    (own,) = wait_for(lambda: [span for span in Collector.spans if span["spanId"] == called["parentSpanId"].lower()])
    assert (own["name"], own["traceId"], own["parentSpanId"]) == ("POST /v1/embeddings", CALLED, "b7ad6b7169203331")
    said = {attribute["key"]: [*attribute["value"].values()] for attribute in own["attributes"]}
    assert said["bert.model"] == ["bert"] and said["bert.texts"] == ["1"] and said["url.query"] == ["REDACTED"]
    assert "business" not in json.dumps(Collector.spans)
    names = {span["name"] for span in Collector.spans}
    assert {"bert", "bert_tokenizer", "bert_encoder", "bert_pooling", "compute"} <= names
    by_id = {span["spanId"]: span for span in Collector.spans}
    step = next(span for span in Collector.spans if span["name"] == "bert_encoder")
    assert by_id[step["parentSpanId"]]["name"] == "bert"
    assert int(step["startTimeUnixNano"]) < int(step["endTimeUnixNano"])


def test_one_request_in_so_many_is_traced(moody_repository: Path, collector: str):
    with LocalServer(moody_repository, trace=f"otlp={collector}/v1/traces", trace_rate=5) as server:
        with Client(server.grpc_url) as client:
            for _ in range(20):
                client.encode("a text")
        wait_for(lambda: sum(span["name"] == "InferRequest" for span in Collector.spans) >= 4)
    assert sum(span["name"] == "InferRequest" for span in Collector.spans) == 4


def test_a_collector_that_is_away_harms_no_request(moody_repository: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    options = {"trace": f"otlp=http://127.0.0.1:{port}", "trace_rate": 1}
    with LocalServer(moody_repository, **options) as server, Client(server.grpc_url) as client:
        for _ in range(50):
            assert client.encode("four").tolist() == [4]


@pytest.mark.parametrize("trace", ["http://localhost:4318", "otlp=localhost:4318", "otlp=", "zipkin=http://x"])
def test_a_trace_that_is_not_understood_is_refused(moody_repository: Path, trace: str):
    with pytest.raises(InvalidArgument, match="such as otlp=http://localhost:4318/v1/traces"):
        LocalServer(moody_repository, trace=trace)
