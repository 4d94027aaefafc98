"""Requests that no client should send: each is answered in its protocol's own form, and the gateway goes on."""

from __future__ import annotations

import http.client
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from perf.soak.malformed import HttpRequest
from perf.soak.malformed_gateway import RIGHT, GatewayGenerator
from tests.support.patience import PATIENCE, wait_for
from tests.support.servers.gateways import Answer, RunningGateway, same

REQUESTS = 600
WORKERS = 4
NO_REQUEST = b"Invalid HTTP request received."

TEI = {"error", "error_type"}
FORMS = {
    **dict.fromkeys(["/embed", "/", "/embed_all", "/embed_sparse", "/similarity", "/predict", "/tokenize"], TEI),
    **dict.fromkeys(["/decode", "/rerank"], TEI),
    **dict.fromkeys(["/v2/embed", "/v2/rerank", "/v1/rerank"], {"id", "message"}),
    "/encode": {"error", "status"},
    "/vectors": {"error"},
}
"""The fields of an error, where it is not OpenAI's."""


def send(gateway: RunningGateway, request: HttpRequest) -> Answer | None:
    """What came back; None for one that was not sent to its end, or that is no HTTP."""
    if request.sent is not None:
        head = f"{request.method} {request.path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(request.body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as connection:
            connection.sendall(head.encode() + request.body[: request.sent])
        return None
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    try:
        connection.request(request.method, request.path, request.body, request.headers)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def check(request: HttpRequest, answer: Answer) -> None:
    """It is right after all, or says what is wrong with it, in words alone, in the form of whom it was meant for."""
    shown = (request, answer)
    if answer.status < 300 or request.method == "HEAD" or answer.body == NO_REQUEST:
        assert answer.status != 500, shown
        return
    assert 400 <= answer.status < 500, shown
    assert b"127.0.0.1" not in answer.body and b"Traceback" not in answer.body, shown
    path, fields = request.path.partition("?")[0], answer.json
    if request.method == "POST" and path in FORMS:
        cohere = path == "/rerank" and b'"documents"' in request.body
        assert set(fields) == FORMS[path] or (cohere and set(fields) == {"id", "message"}), shown
        message = fields.get("error", fields.get("message"))
    else:
        assert set(fields) == {"error"} and set(fields["error"]) == {"message", "type", "param", "code"}, shown
        message = fields["error"]["message"]
    assert message and "\n" not in message, shown


def send_share(gateway: RunningGateway, seed: int) -> Counter[int]:
    generator = GatewayGenerator(seed)
    statuses: Counter[int] = Counter()
    for _ in range(REQUESTS // WORKERS):
        request = generator.next_http()
        answer = send(gateway, request)
        if answer is not None:
            check(request, answer)
            statuses[answer.status] += 1
    return statuses


def test_each_is_answered_in_its_own_form_and_the_gateway_goes_on(gateway: RunningGateway, client_of):
    with ThreadPoolExecutor(WORKERS) as pool:
        seen = sum(pool.map(lambda seed: send_share(gateway, seed), range(WORKERS)), Counter())
    assert seen[200] < seen.total() / 2 and seen[400] + seen[422] > seen.total() / 3, seen
    wait_for(lambda: b"bert_gateway_requests_in_flight 1.0\n" in gateway.get("/metrics").body)
    answer = gateway.post("/v1/embeddings", input="a text")
    same(np.array(answer.json["data"][0]["embedding"], np.float32), client_of("bert").encode("a text"))


def test_what_they_are_made_of_is_right(gateway: RunningGateway):
    for path, fields in RIGHT.items():
        answer = gateway.post(path, **fields)
        assert answer.status == 200, (path, answer)
