"""What a connection may take before it is known what it asks: bytes and seconds, whoever opened it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES = 64 << 10
"""Of a request's line and headers; what comes in one piece, 256 KiB at most, is not cut in two to be counted."""

HEAD_SECONDS = 30.0
"""In which a request's line and headers have to arrive, from the first byte or from when the connection is opened; and
what is left of a body that had its answer before it was all there, so that nobody reads it.
"""


class BoundedHttp(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, which alone would gather a line or a header of any length, for any time.

    Nor does it read the body of a request that offers to go on in another protocol, as Java's client does with each.
    """

    _head = 0
    """Bytes since a head began, while it is not whole."""
    _late: asyncio.TimerHandle | None = None
    _has_body = False
    """Whether some of a body is still to come."""
    _cycles: tuple[RequestResponseCycle, ...] = ()
    """The requests that are not answered yet."""
    _offers = False
    """Whether the request that is being read offers to go on in another protocol; it is read again without that."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.parser = _Parser(self)
        with suppress(AttributeError):  # as uvicorn does, where the parser has it
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, not for ever."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more; and tell all who answer a request, of which uvicorn tells the one that came last."""
        self._stop_waiting()
        for cycle in self._cycles:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what is not of a body, and see that what is waited for is not waited for without end."""
        self._head += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._head > MAX_HEAD_BYTES:
            if self._is_answering:
                self.transport.close()  # the request that is being answered is not given two answers
            else:
                self.send_400_response(f"The request's line and headers may have {MAX_HEAD_BYTES} bytes at most.")
        elif self._head or self._is_unread:
            if self._late is None:
                self._wait()
        elif not self._is_answering and self.timeout_keep_alive_task is None:
            # The end of a body that had its answer: uvicorn began to wait for the next request then, and has stopped.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._offers = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if not self._offers:
            self._is_whole()
            self._has_body = True
            super().on_headers_complete()
            self._cycles = *(cycle for cycle in self._cycles if not cycle.response_complete), self.cycle

    def on_body(self, body: bytes) -> None:
        """A body is counted by who reads it."""
        self._head = 0
        if not self._is_unread:
            self._stop_waiting()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """What comes next is another head."""
        if not self._offers:
            self._is_whole()
            self._has_body = False
            super().on_message_complete()

    def declined(self) -> bytes | None:
        """The head that has just been read, without its offer; None if it has none."""
        if not self._offers:
            return None
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_unread(self) -> bool:
        """Whether some of a body is to come that has its answer."""
        return self._has_body and not self._is_answering

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
        if self._is_answering:  # what comes behind a request does not end it
            self._wait()
        else:
            self.transport.close()


class _Parser(HttpRequestParser):
    """It goes on in HTTP/1.1, whatever a request offers."""

    def __init__(self, connection: BoundedHttp) -> None:
        super().__init__(connection)
        self._connection = connection

    def feed_data(self, data: Any) -> None:
        """Read what has come; behind a head with an offer all would be another protocol's."""
        while True:
            try:
                return super().feed_data(data)
            except HttpParserUpgrade as offer:
                head = self._connection.declined()
                if head is None:
                    raise
                data = head + data[offer.args[0] :]
