"""Large answers to callers that do not read them."""

import json
import socket
from contextlib import ExitStack
from http.client import HTTPResponse, IncompleteRead

import pytest

from tests.support.patience import PATIENCE, wait_for
from tests.support.servers.gateways import running_gateway


def test_who_reads_answers_slowly_keeps_no_more_of_them_than_all_may_have(gateway_server, tmp_path):
    body = json.dumps({"inputs": ["the quick brown fox " * 100] * 5}).encode()  # 5 texts of 256 tokens: 6 MB
    with running_gateway(tmp_path, gateway_server.grpc_url, "--max-body", "1") as gateway, ExitStack() as stack:
        answers = []
        for _ in range(4):  # two and a half of them may be kept
            caller = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE))
            caller.sendall(b"POST /embed_all HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            answers.append(HTTPResponse(caller))
            answers[-1].begin()
            assert answers[-1].status == 200
        wait_for(lambda: [line["error"] for line in gateway.log() if "error" in line] == ["slow", "slow"])
        for answer in answers[:2]:
            with pytest.raises(IncompleteRead):
                answer.read()
        found = [json.loads(answer.read()) for answer in answers[2:]]
        assert [len(rows) for rows in found] == [5, 5] and len(found[0][0]) == 256
        assert gateway.post("/embed", inputs="First do it").status == 200
