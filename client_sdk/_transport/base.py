"""The narrow interface between the client and a protocol: requests, queries and arrays.

A transport makes one attempt at a time and raises this package's own errors; whether to try again is decided
elsewhere (`_transport.retry`). Its blocking form may be shared by threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy.typing as npt

from client_sdk._call.texts import Text

if TYPE_CHECKING:
    from client_sdk._transport.peer import Reach

Arrays = dict[str, npt.NDArray[Any]]
"""Output name -> array, which may be a read-only view of the reply. BYTES are object arrays of bytes."""

Parameters = Mapping[str, bool | int | str]


@dataclass(frozen=True)
class InferRequest:
    """One inference: texts that are all str ([N, 1] on the wire) or all pairs ([N, 2])."""

    model: str
    texts: Sequence[Text]
    outputs: tuple[str, ...]
    parameters: Parameters = field(default_factory=dict)
    version: str = ""
    """Of the model; empty for the highest that is served."""
    identity: str | None = None
    """Of the model that is to answer; empty for one that has none. None: whichever the server is known to have."""

    def sent_parameters(self) -> Parameters:
        """The parameters, and the identity, which the server compares with its own."""
        return {**self.parameters, "identity": self.identity} if self.identity else self.parameters

    def text_rows(self) -> list[list[bytes]]:
        """The texts as rows of UTF-8 bytes."""
        return [
            [text.encode()] if isinstance(text, str) else [text[0].encode(), text[1].encode()] for text in self.texts
        ]


class Reply(NamedTuple):
    """What came back for an inference."""

    arrays: Arrays
    version: str
    """Of the model that answered."""
    identity: str | None = ""
    """That the server was asked for, so that it is its own; empty if it has none, None if that is not known."""


@dataclass(frozen=True)
class Query:
    """A question about the server or a model; the answer is a dict, the same from both protocols."""

    kind: Literal["config", "metadata", "ready", "server", "statistics"]
    model: str = ""


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
