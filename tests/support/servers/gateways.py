"""Gateways as their users start them, and requests to them."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.patience import PATIENCE, wait_for


def same(found: Any, expected: Any) -> None:
    """Vectors are equal, bit for bit; those of several texts as far as the runs of the network allow in which the
    texts come together.
    """
    if np.ndim(expected) == 1 or len(expected) == 1:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class RunningGateway:
    """A gateway in a process of its own."""

    port: int
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def get(self, path: str) -> Answer:
        return self.send("GET", path)

    def post(self, path: str, **fields: Any) -> Answer:
        return self.send("POST", path, json.dumps(fields))

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = self.connect()
        try:
            connection.request(method, path, body, {"content-type": "application/json", **headers})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def log(self) -> list[dict[str, Any]]:
        """The lines of its requests, but for one that is being written."""
        whole, _, _ = self.output.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


@contextmanager
def running_gateway(folder: Path, triton: str, *options: str) -> Iterator[RunningGateway]:
    """A gateway on a free port, whose output goes to a file of `folder`."""
    output = folder / "gateway.log"
    command = [sys.executable, "-m", "client_sdk", "gateway", "--triton", triton, "--listen", "127.0.0.1:0", *options]
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:

        def port() -> int | None:
            text = output.read_text()
            assert process.poll() is None, text
            found = re.search(r"HTTP +http://127\.0\.0\.1:(\d+)\n", text)
            return int(found[1]) if found and "Ctrl-C" in text else None

        yield RunningGateway(wait_for(port), process, output)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
