"""What a local server is asked, over HTTP: whether it is ready, and whether it still answers."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

_READY_TIMEOUT_SECONDS = 2.0
_EXCHANGE_TIMEOUT_SECONDS = 2.0

_numbers = count(1)


@dataclass(frozen=True)
class HttpAddress:
    """Where a server answers, and the headers that it wants."""

    host: str
    port: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """A connection, opened by its first request; `timeout` in seconds is that of each step."""
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)


def is_ready(address: HttpAddress, name: str, models: Sequence[str], timeout: float) -> bool:
    """Whether the server there is the one called `name`, and every model is ready; `timeout` in seconds."""
    with contextlib.closing(address.connection(min(_READY_TIMEOUT_SECONDS, max(0.01, timeout)))) as connection:
        try:
            # The name tells this server from another that took the port.
            return (
                _get(connection, "/v2/health/ready", address.headers) is not None
                and json.loads(_get(connection, "/v2", address.headers) or b"{}").get("name") == name
                and all(_get(connection, f"/v2/models/{model}/ready", address.headers) is not None for model in models)
            )
        except (OSError, http.client.HTTPException, ValueError):
            return False


def _get(connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]) -> bytes | None:
    """The body of the answer, None if the status is not 200."""
    connection.request("GET", path, headers=dict(headers))
    response = connection.getresponse()
    body = response.read()
    return body if response.status == 200 else None


class Question:
    """One request, sent again and again; never a second one while the first is not answered.

    So it waits its turn in a busy server without making it busier. Its text is never the same, lest a cache answer.
    """

    def __init__(self, address: HttpAddress, family: str | None) -> None:
        """`family`: whose model is to encode a text, which takes all its steps; None: whether the server lives."""
        self.about = family or "tritonserver"
        self._address = address
        self._path = f"/v2/models/{family}/infer" if family else "/v2/health/live"
        self._is_inference = family is not None
        self._connection: http.client.HTTPConnection | None = None
        self._asked_at = 0.0

    @property
    def is_asked(self) -> bool:
        """Whether an answer is due."""
        return self._connection is not None

    def waiting_seconds(self, now: float) -> float:
        """For how long it has been waiting for the answer at time.monotonic() `now`; 0 if none is due."""
        return max(0.0, now - self._asked_at) if self._connection else 0.0

    def wait_anew(self, now: float) -> None:
        """Has the wait for the answer begin at time.monotonic() `now`."""
        self._asked_at = now

    def ask(self) -> None:
        """Send the request. Raises OSError if that cannot be done."""
        self._connection = self._address.connection(_EXCHANGE_TIMEOUT_SECONDS)
        self._asked_at = time.monotonic()
        try:
            if self._is_inference:
                self._connection.request("POST", self._path, _one_text(), dict(self._address.headers))
            else:
                self._connection.request("GET", self._path, headers=dict(self._address.headers))
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def answer(self) -> tuple[int, str] | None:
        """Status and body of the answer, None while there is none. Raises OSError if the connection is lost."""
        if self._connection is None or not _has_data(self._connection.sock):
            return None
        try:
            response = self._connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise ConnectionError(f"the connection was lost ({error!r})") from None
        finally:
            self.close()

    def close(self) -> None:
        """Give up what was asked."""
        if self._connection:
            self._connection.close()
            self._connection = None


def _has_data(sock: socket.socket) -> bool:
    poll = select.poll()  # select() takes no descriptor above 1023
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _one_text() -> bytes:
    request: dict[str, Any] = {
        "inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [str(next(_numbers))]}],
        "parameters": {"binary_data_output": True},
    }
    return json.dumps(request).encode()
