"""What a connection may take before it is known what it asks: bytes and seconds, whoever opened it."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10
"""Of a request's line and headers; what comes in one piece, 256 KiB at most, is not cut in two to be counted."""

HEAD_SECONDS = 30.0
"""In which a request's line and headers have to arrive, from the first byte or from when the connection is opened."""


class BoundedHttp(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, which alone would gather a line or a header of any length, for any time."""

    _head = 0
    """Bytes since a head began, while it is not whole."""
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, not for ever."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what is not of a body."""
        self._head += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self._head == 0:
            return
        if self._head > MAX_HEAD_BYTES:
            if self.cycle is not None and not self.cycle.response_complete:
                self.transport.close()  # the request that is being answered is not given two answers
            else:
                self.send_400_response(f"The request's line and headers may have {MAX_HEAD_BYTES} bytes at most.")
        elif self._late is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._is_whole()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A body is counted by who reads it."""
        self._is_whole()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """What comes next is another head."""
        self._is_whole()
        super().on_message_complete()

    def _is_whole(self) -> None:
        self._head = 0
        self._stop_waiting()

    def _wait(self) -> None:
        self._late = self.loop.call_later(HEAD_SECONDS, self._is_late)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _is_late(self) -> None:
        self._late = None
        self.transport.close()
