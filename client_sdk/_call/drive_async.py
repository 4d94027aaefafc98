"""Sends a job's batches and waits, with tasks of an event loop; see `drive`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from client_sdk._call.again import cut_smaller, pause_after
from client_sdk._call.ask import learn_async
from client_sdk._call.blocks import Block
from client_sdk._call.job import Job
from client_sdk._call.plan import IN_FLIGHT, Batch, cut
from client_sdk._errors import ClientError, DeadlineExceeded
from client_sdk._transport.base import AsyncTransport
from client_sdk._transport.peer import TooManyTexts
from client_sdk._transport.retry import Deadline, Retry


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
            return await _drive_many_async(job, _each(cut_smaller(error, batch)), transport, deadline)
        except ClientError as error:
            await asyncio.sleep(pause_after(error, job, batch, request, retry))


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
                for piece in cut_smaller(error, batch):
                    await answered(piece)
                return
            except ClientError as error:
                await asyncio.sleep(pause_after(error, job, batch, request, retry))

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
