"""What a request may take: bytes, texts, and a place among those that are answered; and its end when nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from client_sdk.gateway.failures import CallerGone, Failure
from client_sdk.gateway.settings import GatewaySettings

T = TypeVar("T")

_DRAINED = 4
"""Times the limit: so much of a body that is too large is still read, so that its sender comes to see the answer."""


class Limits:
    """Those of one gateway."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self.answered = 0
        """Requests that are being answered."""

    async def body(self, request: Request) -> bytes:
        """The body, counted while it is read.

        Raises:
            Failure: It is too large, or does not come.
            CallerGone: Its sender is gone.
        """
        most = self._settings.max_body_bytes
        try:
            body = await asyncio.wait_for(_read(request, most), self._settings.body_timeout)
        except asyncio.TimeoutError:
            raise Failure("late", f"the body did not come within {self._settings.body_timeout:g} s") from None
        except ClientDisconnect:
            raise CallerGone from None
        if body is None:
            raise Failure("large", f"the body may have {most} bytes at most")
        return body

    def check_texts(self, texts: Sized, param: str) -> None:
        """Raise Failure for too many, or none."""
        if len(texts) > self._settings.max_texts:
            raise Failure(
                "large", f"{param} has {len(texts)} texts; a request may have {self._settings.max_texts}", param
            )
        if len(texts) == 0:
            raise Failure("invalid", f"{param} is empty: there is nothing to encode", param)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the requests that are answered; raises Failure if all are taken."""
        if self.answered >= self._settings.max_concurrency:
            raise Failure("busy", f"{self.answered} requests are being answered, and no more are taken; try again")
        self.answered += 1
        try:
            yield
        finally:
            self.answered -= 1


async def _read(request: Request, most: int) -> bytes | None:
    """The body; None if it has more than `most` bytes, of which none are kept."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= most:
            chunks.append(chunk)
        else:
            chunks.clear()
            if size > _DRAINED * most:
                break
    return b"".join(chunks) if size <= most else None


async def while_awaited(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives, which is cancelled when the caller, whose body has been read, hangs up.

    Raises:
        CallerGone: It hung up.
    """
    answer, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise CallerGone
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()
        await asyncio.gather(answer, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
