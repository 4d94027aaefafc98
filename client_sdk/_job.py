"""One call of the user's, as data: which requests to send and what to do with each reply.

Blocking and asynchronous clients share all of this; only the waiting differs (`_drive`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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


def vectors_job(
    model: str,
    texts: Texts,
    parameters: Parameters,
    batch_size: int,
    show_progress: bool,
    model_version: int | None = None,
) -> Job[npt.NDArray[np.float32]]:
    """One vector a text."""
    source = _open(texts, parameters)
    rows = Rows("EMBEDDING", np.float32, source.count)
    return Job(model, ("EMBEDDING",), parameters, source, rows, batch_size, show_progress, model_version)


def tokens_job(
    model: str,
    texts: Texts,
    parameters: Parameters,
    batch_size: int,
    show_progress: bool,
    model_version: int | None = None,
) -> Job[list[TokenVectors]]:
    """One vector a token."""
    outputs = ("TOKEN_EMBEDDING", "TOKENS", "ATTENTION_MASK")
    source = _open(texts, parameters)
    return Job(f"{model}_tokens", outputs, parameters, source, TokenItems(), batch_size, show_progress, model_version)


def counts_job(
    model: str,
    texts: Texts,
    parameters: Parameters,
    batch_size: int,
    show_progress: bool,
    model_version: int | None = None,
) -> Job[npt.NDArray[np.int64]]:
    """One count a text; the tokenizer alone answers, and the network does not run."""
    source = _open(texts, parameters)
    counts = Counts(source.count)
    return Job(
        f"{model}_tokenizer", ("TOKEN_COUNT",), parameters, source, counts, batch_size, show_progress, model_version
    )


def counted_vectors_job(
    model: str, texts: Texts, parameters: Parameters
) -> Job[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """One vector a text, and its token count."""
    source = _open(texts, parameters)
    both = Both(Rows("EMBEDDING", np.float32, source.count), Counts(source.count))
    return Job(model, ("EMBEDDING", "TOKEN_COUNT"), parameters, source, both, DEFAULT_BATCH_SIZE, False)


def counted_tokens_job(
    model: str, texts: Texts, parameters: Parameters
) -> Job[tuple[list[TokenVectors], npt.NDArray[np.int64]]]:
    """One vector a token, zero where it is not pooled, and each text's token count."""
    outputs = ("TOKEN_EMBEDDING", "TOKENS", "ATTENTION_MASK", "POOLING_MASK", "TOKEN_COUNT")
    source = _open(texts, parameters)
    both = Both(TokenItems(blank_unpooled=True), Counts(source.count))
    return Job(f"{model}_tokens", outputs, parameters, source, both, DEFAULT_BATCH_SIZE, False)


def token_lists_job(model: str, texts: Texts, parameters: Parameters) -> Job[list[list[str]]]:
    """The tokens of each text; the tokenizer alone answers, and the network does not run."""
    source = _open(texts, parameters)
    outputs = ("TOKENS", "attention_mask")
    return Job(f"{model}_tokenizer", outputs, parameters, source, TokenLists(), DEFAULT_BATCH_SIZE, False)


def _open(texts: Texts, parameters: Parameters) -> TextSource:
    return open_texts(texts, is_tokenized=bool(parameters.get("is_tokenized")))
