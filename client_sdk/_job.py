"""One call of the user's, as data: which requests to send and what to do with each reply.

Blocking and asynchronous clients share all of this; only the waiting differs (`_drive`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ._collect import Both, Collector, Counts, Rows, TokenItems, TokenLists, TokenVectors
from ._errors import ClientError, DeadlineExceeded, InvalidArgument, ServerBusy, VersionChanged
from ._options import positive_int
from ._peer import Reach
from ._plan import Batch, plan
from ._progress import Progress
from ._settings import DEFAULT_BATCH_SIZE
from ._texts import Texts, TextSource, open_texts
from ._transport import InferRequest, Parameters, Reply

R = TypeVar("R")

TEXT_INDEX = re.compile(r"^text (\d+)\b(.*)", re.DOTALL)
"""How an error about one text begins, the server's and ours: the text's index, and the rest."""


@dataclass
class Pin:
    """Which model answered first, and so has to answer the rest."""

    version: str | None = None  # None: nothing has been answered yet
    identity: str | None = None


_shared_pin: ContextVar[Pin | None] = ContextVar("shared_pin", default=None)


@contextmanager
def one_model() -> Iterator[None]:
    """The calls within it, all to one family, are answered by one model, or raise VersionChanged, as one call is."""
    token = _shared_pin.set(Pin())
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
        batch_size: int,
        show_progress: bool,
        model_version: int | None = None,
    ) -> None:
        self.model = model
        self.model_version = None if model_version is None else positive_int("model_version", model_version)
        self._pin = _shared_pin.get() or Pin()
        self._outputs = outputs
        self._parameters = parameters
        self._source = source
        self._collector = collector
        self._batch_size = positive_int("batch_size", batch_size)
        self._progress = Progress(source.count, show_progress)
        self._done = 0

    @property
    def has_one_text(self) -> bool:
        """Whether there is one text only, so that the server's limit does not matter."""
        return self._source.count == 1

    @property
    def must_know_the_model(self) -> bool:
        """Whether a server is asked for its identity and limit first; the one reply to a single text is as it is."""
        return not self.has_one_text or _shared_pin.get() is not None

    def batches(self, max_batch_size: int) -> Iterator[Batch]:
        """What to send; batches are cut to the server's limit."""
        if self._source.single:
            return iter([Batch(list(self._source.texts), [0])])
        return plan(self._source.texts, min(self._batch_size, max_batch_size))

    def request(self, batch: Batch) -> InferRequest:
        """The request of a batch."""
        version = "" if self.model_version is None else str(self.model_version)
        return InferRequest(self.model, batch.texts, self._outputs, self._parameters, version, self._pin.identity)

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

    def renumbered(self, error: ClientError, batch: Batch) -> ClientError:
        """The server counts the texts of a request; the caller's own count is put in its place."""
        match = TEXT_INDEX.match(str(error)) if isinstance(error, InvalidArgument) else None
        if match is None or int(match[1]) >= len(batch.positions):
            return error
        return InvalidArgument(f"text {batch.positions[int(match[1])]}{match[2]}")

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


@dataclass(frozen=True)
class AnswerKind(Generic[R]):
    """What a call wants to know of each text.

    Attributes:
        role: The end of the name of the family's model that answers.
        outputs: Of that model.
        collector: Makes what puts the replies together, for so many texts; None: a stream.
    """

    role: str
    outputs: tuple[str, ...]
    collector: Callable[[int | None], Collector[R]]

    def job(
        self,
        model: str,
        texts: Texts,
        parameters: Parameters,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress: bool = False,
        model_version: int | None = None,
    ) -> Job[R]:
        """A call to the family `model`."""
        source = open_texts(texts, is_tokenized=bool(parameters.get("is_tokenized")))
        collector = self.collector(source.count)
        name = model + self.role
        return Job(name, self.outputs, parameters, source, collector, batch_size, show_progress, model_version)


def _vectors(count: int | None) -> Rows:
    return Rows("EMBEDDING", np.float32, count)


VECTORS: AnswerKind[npt.NDArray[np.float32]] = AnswerKind("", ("EMBEDDING",), _vectors)
"""One vector a text."""

COUNTED_VECTORS: AnswerKind[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]] = AnswerKind(
    "", ("EMBEDDING", "TOKEN_COUNT"), lambda count: Both(_vectors(count), Counts(count))
)
"""One vector a text, and its token count."""

TOKEN_VECTORS: AnswerKind[list[TokenVectors]] = AnswerKind(
    "_tokens", ("TOKEN_EMBEDDING", "TOKENS", "ATTENTION_MASK"), lambda _: TokenItems()
)
"""One vector a token."""

COUNTED_TOKEN_VECTORS: AnswerKind[tuple[list[TokenVectors], npt.NDArray[np.int64]]] = AnswerKind(
    "_tokens",
    ("TOKEN_EMBEDDING", "TOKENS", "ATTENTION_MASK", "POOLING_MASK", "TOKEN_COUNT"),
    lambda count: Both(TokenItems(blank_unpooled=True), Counts(count)),
)
"""One vector a token, zero where it is not pooled, and each text's token count."""

COUNTS: AnswerKind[npt.NDArray[np.int64]] = AnswerKind("_tokenizer", ("TOKEN_COUNT",), Counts)
"""One count a text; the tokenizer alone answers, and the network does not run."""

TOKENS: AnswerKind[list[list[str]]] = AnswerKind("_tokenizer", ("TOKENS", "attention_mask"), lambda _: TokenLists())
"""The tokens of each text; the tokenizer alone answers, and the network does not run."""
