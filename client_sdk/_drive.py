"""Sends a job's batches and waits: once with threads and futures, once with tasks.

Both keep IN_FLIGHT requests for each server on their way, try again as `_retry` says, and give up what is on its
way when the call ends early, be it by an error, by Ctrl-C or by cancellation.
"""

from __future__ import annotations

import asyncio
import heapq
import queue
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from functools import partial
from itertools import chain, count, islice
from typing import Any, TypeVar

from ._errors import ClientError, DeadlineExceeded
from ._job import Job
from ._plan import IN_FLIGHT, Batch
from ._retry import GRACE, Deadline, Retry
from ._transport import AsyncTransport, Pending, Query, Transport

T = TypeVar("T")

_Again = tuple[float, int, Batch, Retry]  # when to try again, a tie-breaker, and what


def attempt(send: Callable[[float], T], retry: Retry, deadline: Deadline) -> T:
    """Call `send(seconds left)` until it succeeds or `retry` raises."""
    while True:
        seconds = deadline.remaining()
        try:
            return send(seconds)
        except ClientError as error:
            time.sleep(retry.pause_after(error))


async def attempt_async(send: Callable[[float], Awaitable[T]], retry: Retry, deadline: Deadline) -> T:
    """Await `send(seconds left)` until it succeeds or `retry` raises."""
    while True:
        seconds = deadline.remaining()
        try:
            return await send(seconds)
        except ClientError as error:
            await asyncio.sleep(retry.pause_after(error))


def ask(questions: Generator[Query, dict[str, Any], T], transport: Transport, deadline: Deadline) -> T:
    """Get the questions answered, one after the other, and what they lead to."""
    try:
        query = next(questions)
        while True:
            send = partial(transport.query, query)
            query = questions.send(attempt(send, Retry(deadline, transport.peer), deadline))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def ask_async(questions: Generator[Query, dict[str, Any], T], transport: AsyncTransport, deadline: Deadline) -> T:
    """As `ask`, without blocking the event loop."""
    try:
        query = next(questions)
        while True:
            send = partial(transport.query, query)
            query = questions.send(await attempt_async(send, Retry(deadline, transport.peer), deadline))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def drive(job: Job[Any], transport: Transport, max_batch_size: int, deadline: Deadline) -> None:
    """Send all of a job, blocking."""
    batches = job.batches(max_batch_size)
    try:
        first = list(islice(batches, 2))
        if len(first) == 1:
            _drive_one(job, first[0], transport, deadline)
        else:
            _drive_many(job, chain(first, batches), transport, deadline)
    except DeadlineExceeded as error:
        raise job.cut_short(error) from None


def _drive_one(job: Job[Any], batch: Batch, transport: Transport, deadline: Deadline) -> None:
    send = partial(transport.infer, job.request(batch))
    try:
        reply = attempt(send, Retry(deadline, transport.peer), deadline)
    except ClientError as error:
        raise job.renumbered(error, batch) from None
    job.take(batch, reply)


def _drive_many(job: Job[Any], batches: Iterator[Batch], transport: Transport, deadline: Deadline) -> None:
    fresh = ((batch, Retry(deadline, transport.peer)) for batch in batches)
    again: list[_Again] = []  # a heap
    order = count()
    flying: dict[Pending, tuple[Batch, Retry]] = {}
    landed: queue.SimpleQueue[Pending] = queue.SimpleQueue()
    room = IN_FLIGHT * transport.peer.servers
    try:
        while True:
            while len(flying) < room:
                if again and again[0][0] <= deadline.clock():
                    _, _, batch, retry = heapq.heappop(again)
                elif (new := next(fresh, None)) is not None:
                    batch, retry = new
                else:
                    break
                pending = transport.start(job.request(batch), deadline.remaining())
                flying[pending] = batch, retry
                pending.add_done_callback(landed.put)
            if not flying and not again:
                return
            try:
                pending = landed.get(timeout=_patience(len(flying) < room, again, deadline))
            except queue.Empty:
                if deadline.left() < -GRACE:
                    deadline.remaining()  # raises
                continue
            batch, retry = flying.pop(pending)
            try:
                job.take(batch, pending.result())
            except ClientError as error:
                pause = retry.pause_after(job.renumbered(error, batch))
                heapq.heappush(again, (deadline.clock() + pause, next(order), batch, retry))
    finally:
        for pending in flying:
            pending.cancel()


def _patience(has_room: bool, again: list[_Again], deadline: Deadline) -> float:
    """Seconds until there is something else to do than to wait for a reply."""
    if again and has_room:
        return max(0.0, again[0][0] - deadline.clock())
    return max(0.0, deadline.left()) + GRACE


async def drive_async(job: Job[Any], transport: AsyncTransport, max_batch_size: int, deadline: Deadline) -> None:
    """Send all of a job, without blocking the event loop."""

    async def serve(batch: Batch) -> None:
        send = partial(transport.infer, job.request(batch))
        try:
            reply = await attempt_async(send, Retry(deadline, transport.peer), deadline)
        except ClientError as error:
            raise job.renumbered(error, batch) from None
        job.take(batch, reply)

    flying: set[asyncio.Task[None]] = set()
    room = IN_FLIGHT * transport.peer.servers
    try:
        for batch in job.batches(max_batch_size):
            if len(flying) >= room:
                flying = await _one_landed(flying)
            flying.add(asyncio.create_task(serve(batch)))
        while flying:
            flying = await _one_landed(flying)
    except DeadlineExceeded as error:
        raise job.cut_short(error) from None
    finally:
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)


async def _one_landed(flying: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    landed, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
    for task in landed:
        task.result()
    return flying
