"""An open loop: requests come when they come, as those of many strangers do, whether or not others are still waiting.

Each has a moment at which it is to start, and its latency counts from there: what waited for the server, for a
connection or for this process is not left out, as it is where a client sends its next request only after an answer.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perf.compare.running.closed_loop import Send

CALLERS = 128
"""Threads that send: beyond so many at a time requests wait here, and that counts."""

KNEE = 5.0
"""Times the p99 of the lowest rate: the knee is the last rate below it."""

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Sent:
    """One request, in seconds since the first might have started."""

    intended: float
    began: float
    ended: float
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one rate.

    Attributes:
        rate: Requests a second that were to be sent.
        requests: That were sent.
        answered_per_second: Up to the last answer.
        latency: Percentile -> milliseconds from the intended start, of those that were answered; empty if none was.
        worst: The longest of them, None if there are none.
        late: Milliseconds behind its intended start that a request was sent, the 99th percentile.
        errors: What was not answered, by the name of the error.
    """

    rate: float
    requests: int
    answered_per_second: float
    latency: dict[int, float]
    worst: float | None
    late: float
    errors: dict[str, int]


def arrivals(rate: float, seconds: float, seed: int = 0) -> list[float]:
    """Moments at which requests start, in seconds: a Poisson process, the same one for the same seed."""
    chance = random.Random(seed)
    found: list[float] = []
    moment = chance.expovariate(rate)
    while moment < seconds:
        found.append(moment)
        moment += chance.expovariate(rate)
    return found


def send_at(
    moments: Sequence[float], connect: Callable[[], Send], requests: Sequence[Any], callers: int = CALLERS
) -> list[Sent]:
    """Send a request at each moment, the requests in turn, and wait for all answers.

    Args:
        moments: Ascending, in seconds from now.
        connect: Called for each caller; returns what sends a request and waits for its answer.
        requests: Ready to be sent.
        callers: How many may wait for an answer at a time.
    """
    waiting: queue.SimpleQueue[tuple[int, float] | None] = queue.SimpleQueue()
    sent: list[Sent] = []

    def run(send: Send) -> None:
        while (due := waiting.get()) is not None:
            place, intended = due
            began, error = time.perf_counter() - start, None
            try:
                send(requests[place % len(requests)])
            except Exception as failure:
                error = type(failure).__name__
            sent.append(Sent(intended, began, time.perf_counter() - start, error))

    threads = [threading.Thread(target=run, args=(connect(),), daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    start = time.perf_counter()
    for place, moment in enumerate(moments):
        time.sleep(max(0.0, start + moment - time.perf_counter()))
        waiting.put((place, moment))
    for _ in threads:
        waiting.put(None)
    for thread in threads:
        thread.join()
    return sent


def outcome(rate: float, sent: Sequence[Sent]) -> Outcome:
    """What the requests of one rate say together."""
    answered = [one for one in sent if one.error is None]
    names = [one.error for one in sent if one.error is not None]
    latencies = [1e3 * (one.ended - one.intended) for one in answered]
    return Outcome(
        rate=rate,
        requests=len(sent),
        answered_per_second=len(answered) / max((one.ended for one in answered), default=1.0),
        latency={p: float(np.percentile(latencies, p)) for p in PERCENTILES} if latencies else {},
        worst=max(latencies, default=None),
        late=float(np.percentile([1e3 * (one.began - one.intended) for one in sent], 99)) if sent else 0.0,
        errors={name: names.count(name) for name in sorted(set(names))},
    )


def knee(outcomes: Sequence[Outcome]) -> float | None:
    """The last rate up to which every request was answered, with a p99 below KNEE times that of the lowest rate.

    None: not even the lowest rate was answered. One at which no request came in the time says nothing.
    """
    found = None
    by_rate = sorted((one for one in outcomes if one.requests), key=lambda one: one.rate)
    for one in by_rate:
        if one.errors or one.latency[99] > KNEE * by_rate[0].latency[99]:
            break
        found = one.rate
    return found
