"""What a request may take: bytes, texts, and a place among those that are answered; and its end when nobody waits."""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence, Sized
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.types import Receive

from client_sdk._call.collect import Collector
from client_sdk._call.questions import ModelInfo
from client_sdk._call.sparse import SparseVectors
from client_sdk._transport.base import Arrays
from client_sdk.gateway.failures import CallerGone, Failure
from client_sdk.gateway.settings import GatewaySettings

R = TypeVar("R")
T = TypeVar("T")

_DRAINED = 4
"""Times the limit: so much of a body that is too large is still read, so that its sender comes to see the answer."""

TOGETHER = 16
"""Times the limit: so much may the bodies have in all that are being read or answered, and the answers being sent."""

_UNWATCHED = 0.05
"""Seconds for which nobody looks whether the caller is still there: of shorter work the end saves nothing."""

MAX_NUMBERS = 1 << 24
"""Of an answer with a vector for each token: 64 MiB, and 200 MB of JSON."""

MAX_TOKENS = 1 << 20
"""Of an answer that names each: 90 MB of JSON. And of a request whose texts are tokens or token ids."""

MAX_WORDS = 1 << 22
"""Of the sparse vectors of an answer: 32 MiB, and 170 MB of JSON."""


class Limits:
    """Those of one gateway."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self.answered = 0
        """Requests that are being answered."""
        self._held = 0
        """Bytes of the bodies that are being read or answered."""

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The body, counted while it is read, and until it has been answered.

        Raises:
            Failure: It is too large, or does not come, or there are too many large ones.
            CallerGone: Its sender is gone.
        """
        most = self._settings.max_body_bytes
        chunks: list[bytes] = []
        try:
            with interrupted(self._late) as end:
                ends = asyncio.get_running_loop().call_later(self._settings.body_timeout, end)
                try:
                    is_whole = await self._read(request.receive, chunks, most)
                finally:
                    ends.cancel()
            if not is_whole:
                raise Failure("large", f"the body may have {most} bytes at most")
            chunks[:] = [b"".join(chunks)]
            yield chunks[0]
        finally:
            self._drop(chunks)

    def _late(self) -> Failure:
        return Failure("late", f"the body did not come within {self._settings.body_timeout:g} s")

    async def _read(self, receive: Receive, chunks: list[bytes], most: int) -> bool:
        """Gather a body; False, and nothing of it, if it has more than `most` bytes."""
        size, goes_on = 0, True
        while goes_on:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise CallerGone
            chunk, goes_on = message.get("body", b""), message.get("more_body", False)
            size += len(chunk)
            if size > most:
                self._drop(chunks)
                if size > _DRAINED * most:
                    break
            elif self._held + len(chunk) > TOGETHER * most:
                raise Failure("busy", f"the requests that are being answered have {self._held} bytes; try again")
            else:
                self._held += len(chunk)
                chunks.append(chunk)
        return size <= most

    def _drop(self, chunks: list[bytes]) -> None:
        self._held -= sum(map(len, chunks))
        chunks.clear()

    def check_lists(self, fields: Mapping[str, Any]) -> None:
        """Raise Failure for more texts, or tokens that texts are given as, than a request may have.

        Nothing in a list is looked at: of millions that takes many seconds, in which nobody else is answered.
        """
        for name, value in fields.items():
            if not isinstance(value, list) or not value:
                continue
            if isinstance(value[0], int):  # the token ids of one text
                tokens = len(value)
            else:
                self._check_count(value, name)
                tokens = sum(len(one) for one in value if isinstance(one, list))
            if tokens > MAX_TOKENS:
                raise Failure("large", f"{name} has {tokens} tokens; a request may have {MAX_TOKENS}", name)

    def _check_count(self, texts: Sized, param: str) -> None:
        most = self._settings.max_texts
        if len(texts) > most:
            raise Failure("large", f"{param} has {len(texts)} texts; a request may have {most}", param)

    def check_texts(self, texts: Sized, param: str) -> None:
        """Raise Failure for too many, or none."""
        self._check_count(texts, param)
        if len(texts) == 0:
            raise Failure("invalid", f"{param} is empty: there is nothing to encode", param)

    def check_numbers(self, texts: Sequence[str] | Sequence[list[int]], info: ModelInfo, param: str) -> None:
        """Raise Failure where vectors of all tokens may be too much for one answer; a token is a byte or more."""
        tokens = _most_tokens(texts, info)
        numbers = tokens * info.dimension
        if numbers > MAX_NUMBERS:
            raise Failure(
                "large",
                f"{param} may have {tokens} tokens, whose vectors are {numbers} numbers; an answer may have "
                f"{MAX_NUMBERS}: send fewer texts",
                param,
            )

    def check_lengths(self, rows: Sequence[list[int]], info: ModelInfo, param: str) -> None:
        """Raise Failure for a row of more token ids than the model reads."""
        for index, ids in enumerate(rows):
            if len(ids) > info.max_seq_len:
                reason = f"{param} {index} has {len(ids)} token ids; of a text the model reads {info.max_seq_len}"
                raise Failure("invalid", reason, param)

    def check_tokens(self, texts: Sequence[str] | Sequence[list[int]], info: ModelInfo, param: str) -> None:
        """Raise Failure where what is said of all tokens may be too much for one answer."""
        tokens = _most_tokens(texts, info)
        if tokens > MAX_TOKENS:
            raise Failure(
                "large",
                f"{param} may have {tokens} tokens; an answer may have {MAX_TOKENS}: send fewer texts",
                param,
            )

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


def _most_tokens(texts: Sequence[str] | Sequence[list[int]], info: ModelInfo) -> int:
    """As many as texts may have where a model reads them: a token is a byte or more."""
    around = 2 + 4 * max(map(len, info.prompts.values()), default=0)
    return sum(min(info.max_seq_len, 4 * len(text) + around if isinstance(text, str) else len(text)) for text in texts)


class _Few(ABC, Generic[R]):
    """A collector, as `collector` collects, that raises Failure for more in all than an answer may have."""

    most: int
    what: str

    def __init__(self, collector: Collector[R], param: str) -> None:
        self._collector = collector
        self._param = param
        self._seen = 0

    @abstractmethod
    def count(self, reply: Arrays) -> int:
        """How much there is in a reply."""

    def take(self, positions: Sequence[int], reply: Arrays) -> None:
        """Keep the rows of a reply."""
        self._seen += self.count(reply)
        if self._seen > self.most:
            raise Failure(
                "large",
                f"the vectors of {self._param} have more than {self.most} {self.what}, which an answer may have: "
                "send fewer texts",
                self._param,
            )
        self._collector.take(positions, reply)

    def result(self) -> R:
        """In the caller's order."""
        return self._collector.result()

    def only(self) -> Any:
        """That of a single text."""
        return self._collector.only()


class FewWords(_Few[SparseVectors]):
    """Of sparse vectors."""

    most, what = MAX_WORDS, "words"

    def count(self, reply: Arrays) -> int:
        """Those that weigh anything."""
        return int(np.count_nonzero(reply.get("WEIGHTS", ())))


class FewNumbers(_Few[list[npt.NDArray[np.float32]]]):
    """Of the vectors of tokens for late interaction."""

    most, what = MAX_NUMBERS, "numbers"

    def count(self, reply: Arrays) -> int:
        """Those of tokens that count."""
        tokens = np.count_nonzero(reply.get("ATTENTION_MASK", ()))
        return int(tokens * np.shape(reply.get("TOKEN_EMBEDDING", ()))[-1])


async def while_awaited(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives, which is cancelled when the caller, whose body has been read, hangs up.

    Raises:
        CallerGone: It hung up.
    """
    loop = asyncio.get_running_loop()
    watch: asyncio.Task[None] | None = None

    with interrupted(CallerGone) as end:

        def begin() -> None:
            nonlocal watch
            watch = loop.create_task(_when_gone(request, end))

        begins = loop.call_later(_UNWATCHED, begin)
        try:
            return await work
        finally:
            begins.cancel()
            if watch is not None:
                watch.cancel()


async def _when_gone(request: Request, end: Callable[[], object]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    end()


@contextmanager
def interrupted(error: Callable[[], Exception]) -> Iterator[Callable[[], object]]:
    """Yield what ends whatever is awaited within it by `error`; it may be called in the same event loop."""
    task = asyncio.current_task()
    assert task is not None
    ended = False

    def end() -> None:
        nonlocal ended
        ended = True
        task.cancel()

    try:
        yield end
    except BaseException:
        if not ended:
            raise
        if sys.version_info >= (3, 11):
            task.uncancel()
        raise error() from None
