"""Asks servers what is not an inference: once blocking, once with coroutines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from client_sdk._errors import AccessDenied, ClientError
from client_sdk._transport.base import AsyncTransport, Query, Transport
from client_sdk._transport.retry import Deadline, Retry

T = TypeVar("T")


def attempt(send: Callable[[float], T], retry: Retry) -> T:
    """Call `send(seconds left)` until it succeeds or `retry` raises."""
    while True:
        seconds = retry.remaining()
        try:
            return send(seconds)
        except ClientError as error:
            time.sleep(retry.pause_after(error))


async def attempt_async(send: Callable[[float], Awaitable[T]], retry: Retry) -> T:
    """Await `send(seconds left)` until it succeeds or `retry` raises."""
    while True:
        seconds = retry.remaining()
        try:
            return await send(seconds)
        except ClientError as error:
            await asyncio.sleep(retry.pause_after(error))


def ask(
    questions: Generator[Query, dict[str, Any], T], transport: Transport, deadline: Deadline, *, once: bool = False
) -> T:
    """Get the questions answered, one after the other (with `once`, by one attempt each), and what they lead to."""
    try:
        query = next(questions)
        while True:
            send = partial(transport.query, query)
            retry = Retry(deadline, transport.peer)
            try:
                answer = send(_share(deadline, transport)) if once else attempt(send, retry)
            except ClientError as error:
                query = questions.throw(error)
            else:
                query = questions.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def ask_async(
    questions: Generator[Query, dict[str, Any], T], transport: AsyncTransport, deadline: Deadline, *, once: bool = False
) -> T:
    """As `ask`, without blocking the event loop."""
    try:
        query = next(questions)
        while True:
            send = partial(transport.query, query)
            retry = Retry(deadline, transport.peer)
            try:
                answer = await send(_share(deadline, transport)) if once else await attempt_async(send, retry)
            except ClientError as error:
                query = questions.throw(error)
            else:
                query = questions.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _share(deadline: Deadline, transport: Transport | AsyncTransport) -> float:
    """Seconds for one attempt of several servers: half of what is left: a frozen one leaves some to others."""
    return deadline.remaining() / (1 if transport.peer.servers == 1 else 2)


def learn(model: str, transport: Transport, deadline: Deadline) -> None:
    """Ask the servers what a call must know of the model, where that is not known since they were connected."""
    while (query := transport.peer.question(model)) is not None:
        with suppress(AccessDenied):  # it is then known that there is no answer
            attempt(partial(transport.query, query), Retry(deadline, transport.peer))


async def learn_async(model: str, transport: AsyncTransport, deadline: Deadline) -> None:
    """As `learn`, without blocking the event loop."""
    while (query := transport.peer.question(model)) is not None:
        with suppress(AccessDenied):
            await attempt_async(partial(transport.query, query), Retry(deadline, transport.peer))
