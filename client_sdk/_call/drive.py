"""Sends a job's batches and waits, blocking; `drive_async` does so with tasks.

Both keep IN_FLIGHT requests for each server on their way, try again as `_transport.retry` says, and give up what is
on its way when the call ends early, be it by an error, by Ctrl-C or by cancellation.
"""

from __future__ import annotations

import heapq
import queue
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain, count, islice
from typing import Any

from client_sdk._call.again import cut_smaller, pause_after
from client_sdk._call.ask import learn
from client_sdk._call.blocks import Block
from client_sdk._call.job import Job
from client_sdk._call.plan import IN_FLIGHT, Batch, cut
from client_sdk._errors import ClientError, DeadlineExceeded
from client_sdk._transport.base import InferRequest, Pending, Transport
from client_sdk._transport.peer import TooManyTexts
from client_sdk._transport.retry import Deadline, Retry
from client_sdk._transport.unbroken import get

_Again = tuple[float, int, Batch, Retry]  # when to try again, a tie-breaker, and what


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
            return _drive_many(job, iter(cut_smaller(error, batch)), transport, deadline)
        except ClientError as error:
            time.sleep(pause_after(error, job, batch, request, retry))


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
            for piece in cut_smaller(error, batch):
                heapq.heappush(again, (0.0, next(order), piece, Retry(deadline, transport.peer)))
        except ClientError as error:
            rest = job.without_refused(error, batch)
            if rest is None:
                pause = pause_after(error, job, batch, request, retry)
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
