"""One call of the user's, as data: which requests to send and what to do with each reply.

Blocking and asynchronous clients share all of this; only the waiting differs (`_drive`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ._collect import Both, Collector, Counts, Rows, TokenItems, TokenLists, TokenVectors
from ._errors import ClientError, DeadlineExceeded, InvalidArgument, VersionChanged
from ._options import positive_int
from ._plan import Batch, plan
from ._progress import Progress
from ._settings import DEFAULT_BATCH_SIZE
from ._texts import Texts, TextSource, open_texts
from ._transport import InferRequest, Parameters, Reply

R = TypeVar("R")

TEXT_INDEX = re.compile(r"^text (\d+)\b(.*)", re.DOTALL)
"""How an error about one text begins, the server's and ours: the text's index, and the rest."""


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
        self._answered_by: str | None = None
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

    def batches(self, max_batch_size: int) -> Iterator[Batch]:
        """What to send; batches are cut to the server's limit."""
        if self._source.single:
            return iter([Batch(list(self._source.texts), [0])])
        return plan(self._source.texts, min(self._batch_size, max_batch_size))

    def request(self, batch: Batch) -> InferRequest:
        """The request of a batch."""
        version = "" if self.model_version is None else str(self.model_version)
        return InferRequest(self.model, batch.texts, self._outputs, self._parameters, version)

    def take(self, batch: Batch, reply: Reply) -> None:
        """Keep the reply to a batch; all of a call must come from one version of the model."""
        if self._answered_by is None:
            self._answered_by = reply.version
        elif reply.version != self._answered_by:
            raise VersionChanged(
                f"versions {self._answered_by} and {reply.version} of model {self.model!r} both answered in one call, "
                "and their vectors must not be mixed: call again, or choose one by model_version"
            )
        self._collector.take(batch.positions, reply.arrays)
        self._done += len(batch.positions)
        self._progress.update(len(batch.positions))

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
