"""Sends a job's batches and waits: once with threads and futures, once with tasks.

Both keep IN_FLIGHT requests for each server on their way, try again as `_transport.retry` says, and give up what is
on its way when the call ends early, be it by an error, by Ctrl-C or by cancellation.
"""

from __future__ import annotations

import asyncio
import heapq
import queue
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from contextlib import aclosing, closing, suppress
from dataclasses import replace
from functools import partial
from itertools import chain, count, islice
from typing import Any, TypeVar

from client_sdk._call.blocks import Block
from client_sdk._call.job import Job
from client_sdk._call.plan import IN_FLIGHT, Batch, cut
from client_sdk._errors import AccessDenied, ClientError, DeadlineExceeded, VersionChanged
from client_sdk._transport.base import AsyncTransport, InferRequest, Pending, Query, Transport
from client_sdk._transport.peer import TooManyTexts
from client_sdk._transport.retry import Deadline, Retry
from client_sdk._transport.unbroken import get

T = TypeVar("T")

_Again = tuple[float, int, Batch, Retry]  # when to try again, a tie-breaker, and what


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


def _pause_after(error: ClientError, job: Job[Any], batch: Batch, request: InferRequest, retry: Retry) -> float:
    """Seconds to wait before the batch is sent again; raises what ends the call."""
    pause = retry.pause_after(job.renumbered(error, batch), request)
    if isinstance(error, VersionChanged):
        job.start_over(error, retry.refusals)
    return pause


def _cut(error: TooManyTexts, batch: Batch) -> list[Batch]:
    """A batch that the server found too large, in pieces that are smaller in any case."""
    if len(batch.texts) == 1:
        raise error
    return list(cut(batch, max(1, min(error.limit, len(batch.texts) - 1))))


def drive(job: Job[Any], transport: Transport, deadline: Deadline) -> None:
    """Send all of a job, blocking."""
    try:
        if job.must_know_the_model:
            learn(job.model, transport, deadline)
        batches = job.batches(transport.peer, deadline)
        first = list(islice(batches, 2))
        deadline.renew()
        if len(first) == 1 and job.leave_out is None:
            _drive_one(job, first[0], transport, deadline)
        else:
            _drive_many(job, chain(first, batches), transport, deadline)
    except DeadlineExceeded as error:
        raise job.cut_short(error) from None


def drive_blocks(job: Job[list[Block]], transport: Transport, deadline: Deadline) -> Iterator[Block]:
    """As `drive`, and yield each block when it and those before it are there. While it is used, nothing new is sent.

    What the texts raise comes behind the blocks of those that were read before.
    """
    failures: list[Exception] = []
    try:
        learn(job.model, transport, deadline)
        batches = _until_failure(job.batches(transport.peer, deadline), failures)
        with closing(_sending(job, batches, transport, deadline)) as sending:
            for _ in sending:
                for block in job.ready():
                    yield block
                    deadline.renew()
        if failures:
            raise failures.pop()
    except DeadlineExceeded as error:
        raise job.cut_short(error) from None


def _until_failure(batches: Iterator[Batch], failures: list[Exception]) -> Iterator[Batch]:
    try:
        yield from batches
    except Exception as error:
        failures.append(error)


def _drive_one(job: Job[Any], batch: Batch, transport: Transport, deadline: Deadline) -> None:
    retry = Retry(deadline, transport.peer)
    deadline.awaited = batch.tokens
    while True:
        if job.must_know_the_model or retry.refusals:
            learn(job.model, transport, deadline)
        request = job.request_for(batch, transport.peer)
        try:
            return job.take(batch, transport.infer(request, retry.remaining()))
        except TooManyTexts as error:
            return _drive_many(job, iter(_cut(error, batch)), transport, deadline)
        except ClientError as error:
            time.sleep(_pause_after(error, job, batch, request, retry))


def _drive_many(job: Job[Any], batches: Iterator[Batch], transport: Transport, deadline: Deadline) -> None:
    for _ in _sending(job, batches, transport, deadline):
        pass


def _sending(
    job: Job[Any], batches: Iterator[Batch], transport: Transport, deadline: Deadline
) -> Generator[None, None, None]:
    """Send batches, and yield whenever something has come back; what is on its way then is given up by closing it."""
    fresh = (piece for batch in batches for piece in cut(batch, job.limit(transport.peer)))
    again: list[_Again] = []  # a heap
    order = count()
    flying: dict[Pending, tuple[Batch, InferRequest, Retry]] = {}
    landed: queue.SimpleQueue[Pending] = queue.SimpleQueue()
    room = IN_FLIGHT * transport.peer.servers
    deadline.awaited = 0.0

    def land(pending: Pending) -> None:
        batch, request, retry = flying.pop(pending)
        try:
            job.take(batch, pending.result())
            deadline.awaited -= batch.tokens
            deadline.renew()
        except TooManyTexts as error:
            for piece in _cut(error, batch):
                heapq.heappush(again, (0.0, next(order), piece, Retry(deadline, transport.peer)))
        except ClientError as error:
            rest = job.without_refused(error, batch)
            if rest is None:
                pause = _pause_after(error, job, batch, request, retry)
                heapq.heappush(again, (deadline.clock() + pause, next(order), batch, retry))
                return
            deadline.awaited -= batch.tokens - rest.tokens
            if rest.texts:
                heapq.heappush(again, (0.0, next(order), rest, retry))

    try:
        while True:
            while len(flying) < room:
                if again and again[0][0] <= deadline.clock():
                    _, _, batch, retry = heapq.heappop(again)
                elif not job.is_ahead and (new := next(fresh, None)) is not None:
                    batch, retry = new, Retry(deadline, transport.peer)
                    while not landed.empty():  # while the next texts were waited for
                        land(landed.get())
                        yield
                    if not flying and not again:
                        deadline.renew()
                    deadline.awaited += batch.tokens
                else:
                    break
                learn(job.model, transport, deadline)
                left = retry.remaining()
                request = replace(job.request_for(batch, transport.peer), patience=left)
                pending = transport.start(request, deadline.of_attempt(left))
                flying[pending] = batch, request, retry
                pending.add_done_callback(landed.put)
            if not flying and not again:
                return
            try:
                pending = get(landed, _patience(len(flying) < room, again, deadline))
            except queue.Empty:
                if deadline.left() <= -deadline.grace:
                    for _, _, retry in flying.values():
                        retry.remaining()  # raises
                    deadline.remaining()
                continue
            land(pending)
            yield
    finally:
        for pending in flying:
            pending.cancel()


def _patience(has_room: bool, again: list[_Again], deadline: Deadline) -> float:
    """Seconds until there is something else to do than to wait for a reply."""
    if again and has_room:
        return max(0.0, again[0][0] - deadline.clock())
    return max(0.0, deadline.left()) + deadline.grace


async def drive_async(job: Job[Any], transport: AsyncTransport, deadline: Deadline) -> None:
    """Send all of a job, without blocking the event loop; what is one request costs no task."""
    try:
        if not job.is_in_memory:
            return await _drive_many_async(job, job.batches_async(transport.peer, deadline), transport, deadline)
        if job.must_know_the_model:
            await learn_async(job.model, transport, deadline)
        batches = job.batches(transport.peer, deadline)
        first = list(islice(batches, 2))
        deadline.renew()
        if len(first) == 1:
            await _drive_one_async(job, first[0], transport, deadline)
        else:
            await _drive_many_async(job, _each(chain(first, batches)), transport, deadline)
    except DeadlineExceeded as error:
        raise job.cut_short(error) from None


async def _drive_one_async(job: Job[Any], batch: Batch, transport: AsyncTransport, deadline: Deadline) -> None:
    retry = Retry(deadline, transport.peer)
    deadline.awaited = batch.tokens
    while True:
        if job.must_know_the_model or retry.refusals:
            await learn_async(job.model, transport, deadline)
        request = job.request_for(batch, transport.peer)
        try:
            return job.take(batch, await transport.infer(request, retry.remaining()))
        except TooManyTexts as error:
            deadline.awaited = 0.0
            return await _drive_many_async(job, _each(_cut(error, batch)), transport, deadline)
        except ClientError as error:
            await asyncio.sleep(_pause_after(error, job, batch, request, retry))


async def _drive_many_async(
    job: Job[Any], batches: AsyncGenerator[Batch, None], transport: AsyncTransport, deadline: Deadline
) -> None:
    async for _ in _sending_async(job, batches, transport, deadline):
        pass


async def _each(batches: Iterable[Batch]) -> AsyncGenerator[Batch, None]:
    for batch in batches:
        yield batch


async def drive_blocks_async(
    job: Job[list[Block]], transport: AsyncTransport, deadline: Deadline
) -> AsyncGenerator[Block, None]:
    """As `drive_blocks`, without blocking the event loop."""
    failures: list[Exception] = []
    batches = _until_failure_async(job.batches_async(transport.peer, deadline), failures)
    try:
        async with aclosing(_sending_async(job, batches, transport, deadline)) as sending:
            async for _ in sending:
                for block in job.ready():
                    yield block
                    deadline.renew()
        if failures:
            raise failures.pop()
    except DeadlineExceeded as error:
        raise job.cut_short(error) from None


async def _until_failure_async(
    batches: AsyncGenerator[Batch, None], failures: list[Exception]
) -> AsyncGenerator[Batch, None]:
    try:
        async with aclosing(batches):
            async for batch in batches:
                yield batch
    except Exception as error:
        failures.append(error)


async def _sending_async(
    job: Job[Any], batches: AsyncGenerator[Batch, None], transport: AsyncTransport, deadline: Deadline
) -> AsyncGenerator[None, None]:
    """Send batches, and yield whenever something has come back or is awaited no more."""

    async def serve(batch: Batch) -> None:
        deadline.awaited += batch.tokens
        await answered(batch)
        deadline.awaited -= batch.tokens

    async def answered(batch: Batch) -> None:
        retry = Retry(deadline, transport.peer)
        while True:
            if job.must_know_the_model or retry.refusals:
                await learn_async(job.model, transport, deadline)
            left = retry.remaining()
            request = replace(job.request_for(batch, transport.peer), patience=left)
            try:
                seconds = left if job.has_one_text else deadline.of_attempt(left)
                job.take(batch, await transport.infer(request, seconds))
                return deadline.renew()
            except TooManyTexts as error:
                for piece in _cut(error, batch):
                    await answered(piece)
                return
            except ClientError as error:
                await asyncio.sleep(_pause_after(error, job, batch, request, retry))

    flying: set[asyncio.Task[None]] = set()
    following: asyncio.Task[Batch | None] | None = None
    is_all = False
    room = IN_FLIGHT * transport.peer.servers
    if job.must_know_the_model:
        await learn_async(job.model, transport, deadline)
    async with aclosing(batches):
        try:
            while flying or not is_all:
                if following is None and not is_all and not job.is_ahead and len(flying) < room:
                    following = asyncio.create_task(_next_batch(batches))
                waited_for: set[asyncio.Task[Any]] = flying | ({following} if following else set())
                landed, _ = await asyncio.wait(
                    waited_for,
                    timeout=_patience_async(bool(flying), deadline),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in landed & flying:
                    task.result()
                flying -= landed
                if following in landed:
                    batch, following = following.result(), None
                    is_all = batch is None
                    if not flying:
                        deadline.renew()
                    for piece in [] if batch is None else cut(batch, job.limit(transport.peer)):
                        flying.add(asyncio.create_task(serve(piece)))
                if not landed:
                    deadline.remaining()  # raises
                yield
        finally:
            given_up = [*flying, *([following] if following else [])]
            for task in given_up:
                task.cancel()
            await asyncio.gather(*given_up, return_exceptions=True)


def _patience_async(is_flying: bool, deadline: Deadline) -> float | None:
    """Seconds to wait; those in which only the caller's own texts are waited for count in a call's whole time alone."""
    if is_flying:
        return max(0.0, deadline.left()) + deadline.grace
    return None if deadline.renewable else max(0.0, deadline.left())


async def _next_batch(batches: AsyncIterator[Batch]) -> Batch | None:
    return await anext(batches, None)
