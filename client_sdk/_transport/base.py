"""The narrow interface between the client and a protocol: requests, queries and arrays.

A transport makes one attempt at a time and raises this package's own errors; whether to try again is decided
elsewhere (`_transport.retry`). Its blocking form may be shared by threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]
"""Output name -> array, which may be a read-only view of the reply. BYTES are object arrays of bytes."""

Parameters = Mapping[str, bool | int | str]


@dataclass(frozen=True)
class InferRequest:
    """One inference."""

    model: str
    rows: Sequence[Sequence[bytes]]
    """Of the input TEXT: N of UTF-8 texts, each of one text or each of a pair's two."""
    outputs: tuple[str, ...]
    """That are wanted; none for all that there are."""
    parameters: Parameters = field(default_factory=dict)
    version: str = ""
    """Of the model; empty for the highest that is served."""
    identity: str | None = None
    """Of the model that is to answer; empty for one that has none. None: whichever the server is known to have."""
    patience: float | None = field(default=None, compare=False)
    """Seconds that the call has left, where the attempt may take longer: answers to others put off the call's end."""

    def sent_parameters(self) -> Parameters:
        """The parameters, and the identity, which the server compares with its own."""
        return {**self.parameters, "identity": self.identity} if self.identity else self.parameters


class Reply(NamedTuple):
    """What came back for an inference."""

    arrays: Arrays
    version: str
    """Of the model that answered."""
    identity: str | None = ""
    """That the server was asked for, so that it is its own; empty if it has none, None if that is not known."""
    server: str = ""
    """Which of several answered; empty where there is one only."""


trace_headers: ContextVar[Mapping[str, str]] = ContextVar("trace_headers", default=MappingProxyType({}))
"""Sent with each inference beside the connection's own headers: of what trace it is a part (W3C Trace Context)."""


@dataclass(frozen=True)
class Query:
    """A question about the server or a model; the answer is a dict, the same from both protocols."""

    kind: Literal["config", "metadata", "ready", "server", "statistics"]
    model: str = ""


class Reach(Protocol):
    """What is asked about the other end, be it one server or several."""

    @property
    def reached(self) -> bool:
        """Whether anything there has answered yet."""
        ...

    @property
    def has_spare(self) -> bool:
        """Whether what one server did not take can be given to another at once."""
        ...

    @property
    def servers(self) -> int:
        """How many servers work side by side."""
        ...

    def has_spare_for(self, request: InferRequest) -> bool:
        """Whether there is another for this request."""
        ...

    def question(self, model: str) -> Query | None:
        """What must still be asked so that all is known that a call needs."""
        ...

    def limit(self, model: str) -> int | None:
        """Texts in a request that every server takes; None if that is not known."""
        ...

    def max_seq_len(self, model: str) -> int | None:
        """Tokens of a text that any server computes at most; None if that is not known."""
        ...

    def prompt_length(self, model: str) -> int:
        """Characters that any server puts before a text at most, as far as is known."""
        ...

    def may_serve(self, request: InferRequest) -> bool:
        """Whether anything there may have the model that is asked for."""
        ...

    def holds(self, model: str) -> str:
        """Which models are where, for an error."""
        ...

    @property
    def name(self) -> str:
        """The address or addresses, for an error."""
        ...


class Pending(Protocol):
    """A request on its way."""

    def result(self) -> Reply:
        """Wait for the reply; raises as `Transport.infer` does."""
        ...

    def cancel(self) -> object:
        """Give the request up; the server drops it if it still waits there."""
        ...

    def add_done_callback(self, callback: Callable[[Any], object]) -> object:
        """Have `callback(self)` called, in any thread, when the reply is there or has failed."""
        ...


class Transport(Protocol):
    """One protocol, blocking. Timeouts are in seconds and bound the single attempt."""

    @property
    def peer(self) -> Reach:
        """What is known of the other end."""
        ...

    def infer(self, request: InferRequest, timeout: float) -> Reply:
        """Send and wait: the shortest path for a single request."""
        ...

    def start(self, request: InferRequest, timeout: float) -> Pending:
        """Send without waiting."""
        ...

    def query(self, query: Query, timeout: float) -> dict[str, Any]:
        """Ask and wait."""
        ...

    def close(self) -> None:
        """Drop the connections; requests on their way fail."""
        ...


class AsyncTransport(Protocol):
    """One protocol, asynchronous; cancelling the task that waits gives the request up."""

    @property
    def peer(self) -> Reach:
        """What is known of the other end."""
        ...

    async def infer(self, request: InferRequest, timeout: float) -> Reply:
        """Send and wait."""
        ...

    async def query(self, query: Query, timeout: float) -> dict[str, Any]:
        """Ask and wait."""
        ...

    async def close(self) -> None:
        """Drop the connections."""
        ...

    def drop(self) -> None:
        """The same where nothing waits for it any more, in any thread: nobody holds the client."""
        ...
