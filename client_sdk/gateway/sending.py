"""Large answers: sent piece by piece, so that it is known which callers have not taken theirs, and bounded in all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from client_sdk.gateway.access_log import note
from client_sdk.gateway.failures import CallerGone
from client_sdk.gateway.limits import interrupted

logger = logging.getLogger("client_sdk.gateway")

PIECE_BYTES = 1 << 20
"""Of an answer at a time, the next when its caller has taken most of it; a smaller one goes as it is."""


class Sending:
    """The large answers of a gateway that are being sent.

    Args:
        most: Bytes that they may have in all. For one more, those that have been sent for longest are left: so nobody
            takes all memory by reading answers a byte a second, nor keeps others from theirs.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[Callable[[], object], int] = {}
        """Bytes of each, by what ends it; the oldest first."""

    def answer(self, whole: Response) -> Response:
        """The same answer; sent in pieces if it is large."""
        return whole if len(whole.body) <= PIECE_BYTES else _InPieces(whole, self)

    @contextmanager
    def keep(self, size: int) -> Iterator[None]:
        """Within it so many bytes are kept; raises CallerGone where they are let go of for newer ones."""
        with interrupted(CallerGone) as end:
            while self._kept and sum(self._kept.values()) + size > self._most:
                oldest = next(iter(self._kept))
                del self._kept[oldest]
                oldest()
            self._kept[end] = size
            try:
                yield
            finally:
                self._kept.pop(end, None)


class _InPieces(Response):
    """An answer, of which a piece is sent when the one before it has been taken."""

    def __init__(self, whole: Response, sending: Sending) -> None:
        super().__init__(whole.body, whole.status_code)
        self.raw_headers = whole.raw_headers
        self._sending = sending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; of one that is left, the connection ends in its middle."""
        size = len(self.body)
        try:
            with self._sending.keep(size):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                for place in range(0, size, PIECE_BYTES):
                    end = place + PIECE_BYTES
                    piece = self.body[place:end]
                    await send({"type": "http.response.body", "body": piece, "more_body": end < size})
        except CallerGone:
            note(scope, error="slow")
            logger.warning("an answer of %d bytes is left, which its caller takes too slowly", size)
