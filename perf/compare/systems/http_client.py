"""A client that costs little: one connection kept open, bodies made before the clock, answers read but not parsed."""

from __future__ import annotations

import http.client
from collections.abc import Callable

_TIMEOUT = 300.0


class Refused(Exception):
    """An answer with another status than 200."""


class Posts:
    """Sends bodies to one path of a server."""

    def __init__(self, port: int, path: str, content_type: str = "application/json", host: str = "127.0.0.1") -> None:
        self._host, self._port, self._path = host, port, path
        self._headers = {"Content-Type": content_type}
        self._connections: list[http.client.HTTPConnection] = []

    def connect(self) -> Callable[[bytes], bytes]:
        """Open a connection; return what posts a body on it and reads the whole answer."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
        self._connections.append(connection)

        def post(body: bytes) -> bytes:
            connection.request("POST", self._path, body, self._headers)
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise Refused(f"HTTP {response.status}: {answer[:200]!r}")
            return answer

        return post

    def close(self) -> None:
        """Close all connections, none of which is in use."""
        while self._connections:
            self._connections.pop().close()
