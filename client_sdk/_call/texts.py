"""What a user may pass as texts, and the checks that are made before anything is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from client_sdk._call.not_texts import instead_of_text, instead_of_texts
from client_sdk._checks import too_long, utf8_problem
from client_sdk._errors import InvalidArgument, InvalidType

Text = str | tuple[str, str]
"""One text, or a pair of texts that are encoded together."""

Tokens = list[str] | list[int] | npt.NDArray[Any]
"""One text that has been cut into tokens already; `"|||"` stands between those of a pair. Or the ids of its tokens."""

Texts = str | Iterable[Text | Tokens]

Pairs = tuple[str, str] | Iterable[tuple[str, str]]
"""One pair of texts, or any number of them."""

AnyTexts = Texts | AsyncIterable[Text | Tokens]
"""What an asynchronous client takes beside it."""

AnyPairs = Pairs | AsyncIterable[tuple[str, str]]
"""The same of pairs."""


_WHAT = {
    "texts": "texts must be a str or an iterable of str",
    "pairs": "pairs must be an iterable of tuples of two str, or one such tuple",
}
"""What is taken, by the name of the argument."""


@dataclass(frozen=True)
class TextSource:
    """Texts that are ready to be read once, each checked before it comes out, and tokens as the server reads them."""

    texts: Iterator[Text] | AsyncIterator[Text]
    count: int | None  # None where only reading to the end can tell
    single: bool = False  # the user gave one str, not a collection
    in_memory: bool = False  # reading them takes no time to speak of


def open_texts(
    texts: AnyTexts,
    *,
    name: str = "texts",
    pairs: bool = True,
    is_tokenized: bool = False,
    asynchronous: bool = False,
) -> TextSource:
    """Check `texts`, a collection at once and a stream (a generator, a lazy sequence) as it is read.

    A tuple at the top is a collection like a list; a pair is a tuple within a collection. With `is_tokenized`, an
    element is a list, a tuple or an array of tokens or of their ids, and comes out as the JSON array that the server
    reads. What is no collection of texts, or not surely one (a table, a mapping), is refused with what to write
    instead.

    Args:
        texts: What the user gave.
        name: Of the argument that they were given as.
        pairs: Whether an element may be one.
        is_tokenized: Each element is a list of tokens, or of their ids.
        asynchronous: Whether an asynchronous iterable will do.
    """
    check = _checked_tokens if is_tokenized else _checked if pairs else _checked_single
    if isinstance(texts, str):
        if is_tokenized:
            raise InvalidType("texts is a str; with is_tokenized it is a collection of lists of tokens")
        return TextSource(iter([_checked(texts, None)]), 1, single=True, in_memory=True)
    if asynchronous and isinstance(texts, AsyncIterable) and not isinstance(texts, Iterable):
        return TextSource(_checked_async_stream(texts, check, name), None)
    if is_tokenized and isinstance(texts, np.ndarray) and texts.ndim == 2:  # of texts that have as many tokens each
        texts = list(texts)
    what = _WHAT.get(name, f"{name} must be an iterable of str")
    advice = instead_of_texts(texts)
    if advice is not None:
        message = f"{what}, not {type(texts).__name__}"
        raise InvalidType(f"{message}: {advice}" if advice else message)
    if hasattr(texts, "to_pylist"):  # an array of Apache Arrow, which would give scalars of its own
        texts = texts.to_pylist()
    assert isinstance(texts, Iterable)
    try:
        iterator = iter(texts)
    except TypeError as error:  # it only looks like an iterable
        raise InvalidType(f"{what}, not {type(texts).__name__} ({error})") from None
    if isinstance(texts, (list, tuple, np.ndarray)):
        if len(texts) == 0:
            raise _nothing(name)
        checked = [check(text, index) for index, text in enumerate(iterator)]
        return TextSource(iter(checked), len(texts), in_memory=True)
    return TextSource(_checked_stream(iterator, check, name), _length(texts))


def _length(texts: object) -> int | None:
    """How many there are, if that can be known."""
    try:
        return len(texts) if isinstance(texts, Sized) else None
    except TypeError:  # such as of a progress bar around a generator
        return None


def _checked_stream(texts: Iterable[object], check: Callable[[object, int], Text], name: str) -> Iterator[Text]:
    index = -1
    for index, text in enumerate(texts):
        yield check(text, index)
    if index < 0:
        raise _nothing(name)


async def _checked_async_stream(
    texts: AsyncIterable[object], check: Callable[[object, int], Text], name: str
) -> AsyncIterator[Text]:
    index = -1
    async for text in texts:
        index += 1
        yield check(text, index)
    if index < 0:
        raise _nothing(name)


def _nothing(name: str) -> InvalidArgument:
    return InvalidArgument(f"{name} is empty: give at least one")


def _checked(text: object, index: int | None) -> Text:
    if isinstance(text, str):
        _check_string(text, index)
        return text
    if isinstance(text, tuple) and len(text) == 2:
        for side, part in zip(("first", "second"), text, strict=True):
            if not isinstance(part, str):
                reason = f": the {side} of the pair is {_kind(part)}, not str{instead_of_text(part)}"
                raise _refused(index, reason, InvalidType)
            _check_string(part, index, f": the {side} of the pair")
        return text
    reason = f" is {_kind(text)}; a text is a str, and a pair is a tuple of two str{instead_of_text(text)}"
    raise _refused(index, reason, InvalidType)


def _checked_single(text: object, index: int | None) -> Text:
    if isinstance(text, tuple) and len(text) == 2:
        raise _refused(index, " is a pair, and each text is taken for itself here: give a str", InvalidType)
    return _checked(text, index)


def _checked_tokens(tokens: object, index: int | None) -> str:
    tokens = _listed(tokens)
    if not isinstance(tokens, (list, tuple)):
        raise _refused(index, f" is {_kind(tokens)}; with is_tokenized a text is a list of tokens", InvalidType)
    if not tokens:
        raise _refused(index, " has no tokens: there is nothing in it to read")
    if {*map(type, tokens)} == {int}:  # nearly always; a list may be long
        return json.dumps(tokens)
    if isinstance(tokens[0], (int, np.integer)):
        return json.dumps([_checked_id(one, index, place) for place, one in enumerate(tokens)])
    for place, token in enumerate(tokens):
        if not isinstance(token, str):
            raise _refused(index, f": token {place} is {_kind(token)}, not str{instead_of_text(token)}", InvalidType)
        _check_string(token, index, f": token {place}")
    return json.dumps(tokens, ensure_ascii=False)


def _listed(tokens: Any) -> Any:
    """A column of lists has arrays of numpy where it comes from pandas or Ray, and where from polars its own."""
    if isinstance(tokens, np.ndarray):
        return tokens.tolist() if tokens.ndim == 1 else tokens
    return tokens.to_list() if hasattr(tokens, "to_list") else tokens


def _checked_id(value: object, index: int | None, place: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise _refused(index, f": token {place} is {_kind(value)}, and others are ids: give ids alone", InvalidType)
    return int(value)


def _check_string(text: str, index: int | None, part: str = "") -> None:
    if not text or text.isspace():
        raise _refused(index, f"{part} is {'blank' if text else 'empty'}: there is nothing in it to read")
    if not text.isascii() and (problem := utf8_problem(text)):
        raise _refused(index, f"{part} {problem}")
    if problem := too_long(text):
        raise _refused(index, f"{part}: {problem}")


def _refused(index: int | None, reason: str, kind: type[InvalidArgument] = InvalidArgument) -> InvalidArgument:
    return kind(f"the text{reason}") if index is None else kind.of_text(index, reason)


def _kind(value: object) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return type(value).__name__
