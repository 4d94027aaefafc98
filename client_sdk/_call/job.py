"""One call of the user's, as data: which requests to send and what to do with each reply.

Blocking and asynchronous clients share all of this; only the waiting differs (`_call.drive`, `_call.drive_async`).
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Generic, TypeVar

from client_sdk._call.blocks import Block, Blocks
from client_sdk._call.collect import Collector
from client_sdk._call.plan import BATCH_TOKENS, DEFAULT_BATCH_SIZE, Batch, Room, batches, plan
from client_sdk._call.precision import Scalar
from client_sdk._call.progress import Progress
from client_sdk._call.questions import Measured, measured_ranges
from client_sdk._call.stream import stream_windows
from client_sdk._call.texts import TextSource
from client_sdk._checks import positive_int
from client_sdk._errors import ClientError, DeadlineExceeded, InvalidArgument, ServerBusy, VersionChanged
from client_sdk._transport.base import InferRequest, Parameters, Query, Reach, Reply
from client_sdk._transport.retry import Deadline

R = TypeVar("R")


@dataclass
class Pin:
    """Which model answered first, and so has to answer the rest."""

    version: str | None = None  # None: nothing has been answered yet
    identity: str | None = None


_shared_pin: ContextVar[Pin | None] = ContextVar("shared_pin", default=None)


@contextmanager
def one_model(pin: Pin | None = None) -> Iterator[None]:
    """The calls within it, all to one family, are answered by one model, or raise VersionChanged, as one call is.

    Args:
        pin: Which model that is, where others are to be answered by it too; it is filled in by the first answer.
    """
    token = _shared_pin.set(Pin() if pin is None else pin)
    try:
        yield
    finally:
        _shared_pin.reset(token)


class Job(Generic[R]):
    """The requests of one call, and the result that grows from their replies."""

    def __init__(
        self,
        model: str,
        outputs: tuple[str, ...],
        parameters: Parameters,
        source: TextSource,
        collector: Collector[R],
        batch_size: int | None,
        show_progress: bool,
        model_version: int | None = None,
        identity: str | None = None,
        scalar: Scalar | None = None,
    ) -> None:
        self.model = model
        self.model_version = None if model_version is None else positive_int("model_version", model_version)
        self._pin = _shared_pin.get() or Pin(identity=identity)
        self._outputs = outputs
        self._parameters = parameters
        self._source = source
        self._collector = collector
        self._blocks = collector if isinstance(collector, Blocks) else None
        self._batch_size = None if batch_size is None else positive_int("batch_size", batch_size)
        self._progress = Progress(source.count, show_progress)
        self._done = 0
        self._scalar = scalar
        self.leave_out: Callable[[int, str], object] | None = None
        """Told the position of each text that the server refuses, and why, where the call is to go on without it."""
        self.answered: Callable[[str, int], object] | None = None
        """Told which of several servers has answered how many texts."""

    @property
    def has_one_text(self) -> bool:
        """Whether there is one text only, so that the server's limit does not matter."""
        return self._source.count == 1

    @property
    def is_in_memory(self) -> bool:
        """Whether reading its texts takes no time to speak of."""
        return self._source.in_memory

    @property
    def must_know_the_model(self) -> bool:
        """Whether a server is asked for its identity and limit first; the one reply to a single text is as it is."""
        return not self.has_one_text or _shared_pin.get() is not None

    @property
    def questions(self) -> Generator[Query, dict[str, Any], Measured] | None:
        """What has to be asked, and learned, before anything is sent; None for nothing."""
        if self._scalar is None:
            return None
        return measured_ranges(self.model, self._scalar.precision, self._parameters, self.model_version)

    def learn(self, measured: Measured) -> None:
        """Take what the server says of the model, which is the one that has to answer.

        Raises:
            VersionChanged: Another one has to.
        """
        assert self._scalar is not None
        if self._pin.identity:
            measured.check(self.model, self._pin.identity)
        self._scalar.learn(measured.ranges)
        if self._pin.version is None:
            self._pin.identity = measured.identity

    def batches(self, peer: Reach, deadline: Deadline) -> Iterator[Batch]:
        """What to send; batches are cut to the server's limit."""
        self._progress.begin()
        room = self._room(peer)
        texts = self._source.texts
        assert not isinstance(texts, AsyncIterator)
        if self._source.single:
            return iter([Batch(list(texts), [0], room.read, room.before)])
        in_memory = self._source.in_memory
        clock = _still if in_memory else time.monotonic
        planned = plan(texts if in_memory else deadline.bounding(texts), room, clock, self._opened)
        if self._blocks is not None:  # nothing is to wait for texts that may be long in coming
            self._prioritize(2)
            return planned
        first = list(islice(planned, 2))
        self._prioritize(len(first))
        return chain(first, planned)

    async def batches_async(self, peer: Reach, deadline: Deadline) -> AsyncGenerator[Batch, None]:
        """As `batches`, without holding up the event loop while a stream is read."""
        self._progress.begin()
        if self._source.in_memory:
            for batch in self.batches(peer, deadline):
                yield batch
            return
        if self._blocks is not None:
            self._prioritize(2)
        first: list[Batch] = []
        async with aclosing(stream_windows(self._source.texts)) as windows:
            async for window in windows:
                self._opened(window.end)
                for batch in batches(window, self._room(peer)):
                    if self._blocks is None and len(first) < 2:
                        first.append(batch)
                        if len(first) < 2:
                            continue  # whether there is another decides on the priority
                        self._prioritize(2)
                        yield first[0]
                    yield batch
        if len(first) == 1:
            yield first[0]

    def _opened(self, end: int) -> None:
        if self._blocks is not None:
            self._blocks.opened(end)

    @property
    def is_ahead(self) -> bool:
        """Whether so much waits for a reply that is late that nothing new is to be sent."""
        return self._blocks is not None and self._blocks.is_ahead

    def ready(self) -> Iterator[Block]:
        """What can be given of a call that is still going on."""
        return iter(()) if self._blocks is None else self._blocks.ready()

    def limit(self, peer: Reach) -> int:
        """Texts that the server takes in a request."""
        return peer.limit(self.model) or DEFAULT_BATCH_SIZE

    def _room(self, peer: Reach) -> Room:
        """What a request may hold; a caller's own `batch_size` is taken as it is.

        A model of which nothing is known reads no more of a text than a request may have.
        """
        read = min(peer.max_seq_len(self.model) or BATCH_TOKENS, float(self._parameters.get("max_seq_len", math.inf)))
        given = self._parameters.get("prompt")  # else one of the model's own may be put before texts
        before = peer.prompt_length(self.model) if given is None else len(str(given))
        if self._batch_size is None:
            return Room(min(DEFAULT_BATCH_SIZE, self.limit(peer)), BATCH_TOKENS, read, before)
        return Room(min(self._batch_size, self.limit(peer)), read=read, before=before)

    def _prioritize(self, requests: int) -> None:
        """A call of several requests makes way for those of others, unless its caller chose a priority."""
        if requests > 1:
            self._parameters = {"bulk": True, **self._parameters}

    def request(self, batch: Batch) -> InferRequest:
        """The request of a batch."""
        version = "" if self.model_version is None else str(self.model_version)
        return InferRequest(self.model, batch.rows(), self._outputs, self._parameters, version, self._pin.identity)

    def request_for(self, batch: Batch, peer: Reach) -> InferRequest:
        """`request`, unless no server has the model that answered before.

        Raises:
            VersionChanged: There is none.
        """
        request = self.request(batch)
        if not peer.may_serve(request):
            raise VersionChanged(
                f"model {self.model!r} was replaced during the call: {request.identity or 'one of unknown identity'} "
                f"answered first, and now {peer.holds(self.model)}; vectors of two models must not be mixed: call again"
            )
        return request

    def take(self, batch: Batch, reply: Reply) -> None:
        """Keep the reply to a batch; all of a call must come from one model.

        Raises:
            VersionChanged: The reply is another model's, and was not kept.
            ServerBusy: Whose it is cannot be known yet.
        """
        pin = self._pin
        if reply.identity is None and self.must_know_the_model:
            raise ServerBusy(f"the connection was made anew, and which model {self.model!r} answered is not known yet")
        identity = reply.identity or ""
        if pin.version is None:
            pin.version, pin.identity = reply.version, identity
        elif identity != pin.identity:
            raise VersionChanged(
                f"two models {self.model!r} both answered in one call, {pin.identity or 'one of unknown identity'} and "
                f"{identity or 'one of unknown identity'}, and their vectors must not be mixed: call again"
            )
        elif not identity and reply.version != pin.version:
            raise VersionChanged(
                f"versions {pin.version} and {reply.version} of model {self.model!r} both answered in one call, "
                "and their vectors must not be mixed: call again, or choose one by model_version"
            )
        self._collector.take(batch.positions, reply.arrays)
        if self.answered is not None:
            self.answered(reply.server, len(batch.positions))
        self._done += len(batch.positions)
        self._progress.update(len(batch.positions))

    def start_over(self, error: VersionChanged, refusals: int) -> None:
        """A batch, which another model answered or has refused so many times, is sent again, unless this raises."""
        if self.model_version is not None and refusals > 1:
            raise VersionChanged(
                f"{error}; model_version={self.model_version}: Triton takes the steps of a model at the highest "
                "version that it serves, so that no other can answer"
            )
        if self._pin.version is not None and not self._pin.identity:
            raise error  # what was taken without an identity cannot be told from what is answered now

    def without_refused(self, error: ClientError, batch: Batch) -> Batch | None:
        """The batch without the text that `error` is about; None if no text is to be left out for it."""
        refused = _refused_text(error, batch)
        if self.leave_out is None or refused is None:
            return None
        index, reason = refused
        self.leave_out(batch.positions[index], reason)
        self._done += 1
        self._progress.update(1)
        texts, positions = batch.texts, batch.positions
        return replace(
            batch, texts=texts[:index] + texts[index + 1 :], positions=positions[:index] + positions[index + 1 :]
        )

    def renumbered(self, error: ClientError, batch: Batch) -> ClientError:
        """The server counts the texts of a request; the caller's own count is put in its place."""
        refused = _refused_text(error, batch)
        if refused is None:
            return error
        index, reason = refused
        return InvalidArgument.of_text(batch.positions[index], reason)

    def cut_short(self, error: DeadlineExceeded) -> DeadlineExceeded:
        """`error`, with how far the call had come."""
        if self._source.count == 1:
            return error
        total = "" if self._source.count is None else f" of {self._source.count:,}"
        return DeadlineExceeded(f"{error}; {self._done:,}{total} texts were done: a longer timeout may be needed")

    def result(self) -> R:
        """All of it, once every batch has been taken; what belongs to a single str is not wrapped."""
        if self._source.single:
            return self._collector.only()  # type: ignore[no-any-return]
        return self._collector.result()

    def close(self) -> None:
        """End the progress bar."""
        self._progress.close()


def _refused_text(error: ClientError, batch: Batch) -> tuple[int, str] | None:
    """Which text of a batch a server has refused, and why; None if it is not about one."""
    if not isinstance(error, InvalidArgument) or error.text_index is None or error.text_index >= len(batch.positions):
        return None
    return error.text_index, error.reason


def _still() -> float:
    """The clock of a call whose texts are all there: nothing is gained by sending some of them early."""
    return 0.0
