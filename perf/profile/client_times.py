"""Where a call of the client spends its time on this side of the network.

The client is watched from outside, at the two functions where a call turns into a message and back, so that what is
measured is the client as users run it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from client_sdk._transport.grpc import transport

_SERIALISATIONS = 50


@dataclass
class CallTimes:
    """Of the calls since it was made, in seconds; each list has an entry a call."""

    whole: list[float] = field(default_factory=list)
    before_message: list[float] = field(default_factory=list)
    """Arguments and texts checked, batches planned."""
    message: list[float] = field(default_factory=list)
    reply: list[float] = field(default_factory=list)
    """The reply turned into arrays."""
    after_reply: list[float] = field(default_factory=list)
    """Rows put in the caller's order."""
    cpu: list[float] = field(default_factory=list)
    """Processor time of all threads of this process."""
    last_message: Any = None
    last_reply: Any = None


class ClientWatch:
    """Calls functions that send exactly one request, and keeps their times. See `watching`."""

    def __init__(self) -> None:
        self.times = CallTimes()
        self._message: tuple[float, float] | None = None
        self._reply: tuple[float, float] | None = None

    def call(self, function: Callable[[], object]) -> None:
        """Call `function` and add an entry to each list of `times`."""
        self._message = self._reply = None
        cpu = time.process_time()
        start = time.perf_counter()
        function()
        end = time.perf_counter()
        cpu = time.process_time() - cpu
        assert self._message and self._reply, "the client no longer makes and reads its messages where it is watched"
        times = self.times
        times.whole.append(end - start)
        times.before_message.append(self._message[0] - start)
        times.message.append(self._message[1] - self._message[0])
        times.reply.append(self._reply[1] - self._reply[0])
        times.after_reply.append(end - self._reply[1])
        times.cpu.append(cpu)

    def serialisation(self) -> tuple[float, float]:
        """Seconds that protobuf takes to write the last message and to read the last reply, which gRPC has it do."""
        message, reply = self.times.last_message, self.times.last_reply
        raw = reply.SerializeToString()
        return _each(message.SerializeToString), _each(lambda: type(reply).FromString(raw))

    def made_message(self, started: float, message: Any) -> None:
        """Take note of a message that has just been made."""
        self._message = started, time.perf_counter()
        self.times.last_message = message

    def read_reply(self, started: float, reply: Any) -> None:
        """Take note of a reply that has just been read."""
        self._reply = started, time.perf_counter()
        self.times.last_reply = reply


@contextmanager
def watching() -> Iterator[ClientWatch]:
    """Within it, the gRPC client reports to the watch."""
    watch = ClientWatch()
    make, read = transport.infer_message, transport.read_reply

    def timed_make(*arguments: Any) -> Any:
        started = time.perf_counter()
        message = make(*arguments)
        watch.made_message(started, message)
        return message

    def timed_read(reply: Any) -> Any:
        started = time.perf_counter()
        arrays = read(reply)
        watch.read_reply(started, reply)
        return arrays

    transport.infer_message, transport.read_reply = timed_make, timed_read
    try:
        yield watch
    finally:
        transport.infer_message, transport.read_reply = make, read


def _each(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    for _ in range(_SERIALISATIONS):
        function()
    return (time.perf_counter() - started) / _SERIALISATIONS
