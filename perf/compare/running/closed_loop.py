"""Load on a system: clients that each send their next call as soon as the last has been answered."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from perf.failure import Failure

Send = Callable[[Any], Any]

_STEADY = 0.1  # two windows of the warm-up whose rates are within this of each other
_WINDOW_SECONDS = 1.5
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Call:
    """One call, in seconds of a monotonic clock."""

    start: float
    end: float

    def share(self, since: float, until: float) -> float:
        """What part of it lies between two times."""
        return max(0.0, min(self.end, until) - max(self.start, since)) / (self.end - self.start)


@dataclass(frozen=True)
class Measured:
    """A window of steady load.

    Attributes:
        calls_per_second: Those that lie partly in the window count in part.
        ended: Seconds that each call took which ended in it.
        meters: What each meter counted in it, a second.
        warm_up: Seconds of load before it.
        steady: Whether the rate had settled by then.
    """

    calls_per_second: float
    ended: list[float]
    meters: list[float]
    warm_up: float
    steady: bool

    @property
    def latencies(self) -> list[float]:
        """The same, one at least. Raises Failure if no call ended."""
        if not self.ended:
            raise Failure("no call ended in the seconds that were measured; measure more of them")
        return self.ended


class _Clients:
    """Threads with a connection each, which send the requests in turn, round and round."""

    def __init__(self, connect: Callable[[], Send], requests: Sequence[Any], clients: int) -> None:
        self.calls: list[list[Call]] = [[] for _ in range(clients)]
        self._connect, self._requests = connect, requests
        self._turn = itertools.count()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, args=(calls,), daemon=True) for calls in self.calls]

    def __enter__(self) -> _Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait(self, until: Callable[[], bool]) -> float:
        """Wait, and return the time then."""
        while not until():
            if self._error:
                raise self._error
            time.sleep(_POLL_SECONDS)
        return time.perf_counter()

    def ended(self) -> int:
        """How many calls have ended."""
        return sum(map(len, self.calls))

    def all_past(self, moment: float) -> bool:
        """Whether each client has ended a call after this moment."""
        return all(calls and calls[-1].end > moment for calls in self.calls)

    def _run(self, calls: list[Call]) -> None:
        try:
            send = self._connect()
            while not self._stop.is_set():
                request = self._requests[next(self._turn) % len(self._requests)]
                start = time.perf_counter()
                send(request)
                calls.append(Call(start, time.perf_counter()))
        except BaseException as error:
            self._error = error


def closed_loop(
    connect: Callable[[], Send],
    requests: Sequence[Any],
    clients: int,
    seconds: float,
    meters: Sequence[Callable[[], float]] = (),
) -> Measured:
    """Load a system until its rate is steady, then measures it under the same load.

    Args:
        connect: Called in each client's thread; returns what sends one of its requests and waits for the answer.
        requests: Ready to be sent.
        clients: How many.
        seconds: To measure, after at most three times as long to warm up.
        meters: Read at the start and at the end of what is measured.
    """
    with _Clients(connect, requests, clients) as running:
        began = now = running.wait(lambda: running.all_past(0.0))
        steady, rate = False, 0.0
        while not steady and now - began < 3 * seconds:
            since, before = now, running.ended()
            now = running.wait(_window(running, since, before + 2 * clients))
            last, rate = rate, (running.ended() - before) / (now - since)
            steady = abs(rate - last) <= _STEADY * rate
        since, first = now, [meter() for meter in meters]
        until = running.wait(lambda: time.perf_counter() - since >= seconds)
        counted = [(meter() - at_first) / (until - since) for meter, at_first in zip(meters, first, strict=True)]
        # The load goes on until the calls of the window have ended, so that none of them had the machine to itself.
        running.wait(lambda: running.all_past(until))
    calls = [call for client in running.calls for call in client]
    return Measured(
        calls_per_second=sum(call.share(since, until) for call in calls) / (until - since),
        ended=[call.end - call.start for call in calls if since <= call.end <= until],
        meters=counted,
        warm_up=since - began,
        steady=steady,
    )


def _window(running: _Clients, since: float, calls: int) -> Callable[[], bool]:
    return lambda: running.ended() >= calls and time.perf_counter() - since >= _WINDOW_SECONDS


def each_once(connect: Callable[[], Send], requests: Sequence[Any], clients: int) -> list[Any]:
    """Send every request once, with several clients, and return the answers in order."""
    answers: list[Any] = [None] * len(requests)
    turn = itertools.count()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            send = connect()
            while (index := next(turn)) < len(requests) and not errors:
                answers[index] = send(requests[index])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return answers
