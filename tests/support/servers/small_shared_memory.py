"""What requests come to on a server whose /dev/shm is too small, as JSON; to be run where /dev/shm is one's own.

small_shared_memory.py REPOSITORY
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from client_sdk import LocalServer

LONG = " ".join(["word"] * 250)
LIMIT = 60.0  # seconds that a request may take
FILLER = "/dev/shm/filler"


def ask(server: LocalServer, number: int, count: int) -> str:
    """Token vectors of different texts, asked for by a client without a deadline of its own."""
    texts = [f"{LONG} {number} {i}" for i in range(count)]
    body: dict[str, Any] = {"inputs": [{"name": "TEXT", "shape": [count, 1], "datatype": "BYTES", "data": texts}]}
    body["outputs"] = [{"name": "TOKEN_EMBEDDING", "parameters": {"binary_data": True}}]
    return outcome_of(server, "bert_tokens", body)


def outcome_of(server: LocalServer, model: str, body: dict[str, Any]) -> str:
    host = server.http_url.removeprefix("http://")
    try:
        connection = http.client.HTTPConnection(host, timeout=LIMIT)
        connection.request("POST", f"/v2/models/{model}/infer", json.dumps(body))
        reply = connection.getresponse()
        content = reply.read()
    except TimeoutError:
        return "no answer"
    except (OSError, http.client.HTTPException) as error:
        return f"no connection: {error!r}"
    return "served" if reply.status == 200 else f"{reply.status} {json.loads(content)['error']}"


def tokenize(server: LocalServer, number: int) -> str:
    """Ids and tokens of texts that are tokenized in turns, while there is no more shared memory to be had."""
    texts = [f"{'word ' * 900}{number} {i}" for i in range(64)]
    body: dict[str, Any] = {"inputs": [{"name": "TEXT", "shape": [64, 1], "datatype": "BYTES", "data": texts}]}
    return outcome_of(server, "bert_tokenizer", body)


def failures(server: LocalServer) -> float:
    time.sleep(0.5)  # the encoder tells Triton five times a second
    with urllib.request.urlopen(server.metrics_url) as reply:
        return float(re.search(r'^bert_step_failures_total{model="bert"} (\S+)$', reply.read().decode(), re.M)[1])


def served_again(server: LocalServer) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if ask(server, 0, 1) == "served":
            return True
        time.sleep(0.5)
    return False


def fill_up() -> None:
    with open(FILLER, "wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


def main(repository: str) -> None:
    assert shutil.disk_usage("/dev/shm").total < 64 << 20, "this would fill the machine's own /dev/shm"
    found: dict[str, Any] = {}
    with LocalServer(repository) as server:
        found["small"] = ask(server, 0, 1)
        with ThreadPoolExecutor(3) as pool:
            found["large"] = list(pool.map(lambda number: ask(server, number, 32), range(6)))
        found["small afterwards"] = ask(server, 1, 1)
        found["failures"] = failures(server)
        found["lines"] = sum("MB does not fit into /dev/shm" in line for line in server.log_lines())
    with LocalServer(repository, supervise=True) as server:
        fill_up()
        with ThreadPoolExecutor(4) as pool:
            counts = (1, 2, 32, 4, 1, 32, 1, 1)
            found["full"] = list(pool.map(lambda pair: ask(server, *pair), enumerate(counts)))
        os.unlink(FILLER)
        found["served when there is room again"] = served_again(server)
    with LocalServer(repository) as server, ThreadPoolExecutor(20) as pool:
        found["in turns"] = []
        for count in (6, 10, 14):
            asked = [pool.submit(tokenize, server, number) for number in range(count)]
            time.sleep(0.25)  # they are there, and not done
            fill_up()
            found["in turns"] += [one.result() for one in asked]
            os.unlink(FILLER)
        found["small after turns"] = ask(server, 2, 1)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
