"""The kinds of answers that calls want: each is a model of the family, its outputs, and what puts replies together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from client_sdk._call.blocks import Block, Blocks
from client_sdk._call.collect import Both, Collector, Counts, LateItems, Rows, TokenItems, TokenLists, TokenVectors
from client_sdk._call.job import Job
from client_sdk._call.options import request_parameters
from client_sdk._call.precision import PRECISIONS, Scalar, converter
from client_sdk._call.texts import AnyTexts, TextSource, open_texts
from client_sdk._kinds import MULTI
from client_sdk._transport.base import Parameters

R = TypeVar("R")

# Options of a method that decide what is sent when, and not what is asked of a text.
_OF_THE_CALL = ("batch_size", "show_progress", "model_version")


@dataclass(frozen=True)
class AnswerKind(Generic[R]):
    """What a call wants to know of each text.

    Attributes:
        role: The end of the name of the family's model that answers.
        outputs: Of that model; none for all that it has.
        collector: Makes what puts the replies together, for so many texts; None: a stream.
        identity: Of the model that is to answer, where something has been asked about it; None: whichever is first.
        pairs: Whether a text may be a pair.
        scalar: Of vectors, what makes 8-bit integers of them by ranges that have to be asked for.
    """

    role: str
    outputs: tuple[str, ...]
    collector: Callable[[int | None], Collector[R]]
    identity: str | None = None
    pairs: bool = True
    scalar: Scalar | None = None

    def job(
        self,
        model: str,
        texts: AnyTexts | TextSource,
        parameters: Parameters,
        batch_size: int | None = None,
        show_progress: bool = False,
        model_version: int | None = None,
        *,
        asynchronous: bool = False,
    ) -> Job[R]:
        """A call to the family `model`."""
        tokenized = bool(parameters.get("is_tokenized"))
        if isinstance(texts, TextSource):
            source = texts
        else:
            source = open_texts(texts, pairs=self.pairs, is_tokenized=tokenized, asynchronous=asynchronous)
        collector = self.collector(source.count)
        name = model + self.role
        call = batch_size, show_progress, model_version
        return Job(name, self.outputs, parameters, source, collector, *call, self.identity, self.scalar)

    def asked(
        self, model: str, texts: AnyTexts | TextSource, options: Mapping[str, Any], *, asynchronous: bool = False
    ) -> Job[R]:
        """A call to the family `model` with the options of a client's method, but for its timeout."""
        of_the_call = {name: value for name, value in options.items() if name in _OF_THE_CALL}
        of_the_texts = {name: value for name, value in options.items() if name not in _OF_THE_CALL}
        return self.job(model, texts, request_parameters(**of_the_texts), **of_the_call, asynchronous=asynchronous)


def _vectors(count: int | None) -> Rows:
    return Rows("EMBEDDING", np.float32, count)


VECTORS: AnswerKind[npt.NDArray[np.float32]] = AnswerKind("", ("EMBEDDING",), _vectors)
"""One vector a text."""


def vectors(options: Mapping[str, Any]) -> tuple[AnswerKind[npt.NDArray[Any]], dict[str, Any]]:
    """One vector a text, of the `precision` that a call's options name; and its other options."""
    make, rest, scalar = _converted(options)
    return AnswerKind(VECTORS.role, VECTORS.outputs, make, scalar=scalar), rest


def blocks(options: Mapping[str, Any]) -> tuple[AnswerKind[list[Block]], dict[str, Any]]:
    """The same, a window at a time."""
    make, rest, scalar = _converted(options)

    def collector(_: int | None) -> Blocks:
        return Blocks(lambda start, count: make(count, start=start))

    return AnswerKind(VECTORS.role, VECTORS.outputs, collector, scalar=scalar), rest


def _converted(options: Mapping[str, Any]) -> tuple[Callable[..., Rows], dict[str, Any], Scalar | None]:
    rest = dict(options)
    if not rest.get("prompt") is rest.get("prompt_name") is None:  # which takes the place of the input type's
        rest.pop("input_type", None)
    precision, ranges = rest.pop("precision", "float32"), rest.pop("ranges", None)
    convert = converter(precision, ranges, learns=True)
    scalar = convert if isinstance(convert, Scalar) and not convert.has_ranges else None
    return partial(Rows, "EMBEDDING", PRECISIONS[precision], convert=convert), rest, scalar


def counted(kind: AnswerKind[R]) -> AnswerKind[tuple[R, npt.NDArray[np.int64]]]:
    """The same, and of the same replies each text's token count, before anything is cut off."""
    outputs = (*kind.outputs, "TOKEN_COUNT")
    return AnswerKind(kind.role, outputs, lambda count: Both(kind.collector(count), Counts(count)), kind.identity)


COUNTED_VECTORS: AnswerKind[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]] = counted(VECTORS)
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


def late_vectors(dimension: int, identity: str | None) -> AnswerKind[list[npt.NDArray[np.float32]]]:
    """The vectors of each text's tokens that count in late interaction, of the model that has this identity."""
    outputs = ("TOKEN_EMBEDDING", "ATTENTION_MASK")
    return AnswerKind(MULTI.role, outputs, lambda _: LateItems(dimension), identity, pairs=False)


COUNTS: AnswerKind[npt.NDArray[np.int64]] = AnswerKind("_tokenizer", ("TOKEN_COUNT",), Counts)
"""One count a text; the tokenizer alone answers, and the network does not run."""

TOKENS: AnswerKind[list[list[str]]] = AnswerKind("_tokenizer", ("TOKENS", "attention_mask"), lambda _: TokenLists())
"""The tokens of each text; the tokenizer alone answers, and the network does not run."""
