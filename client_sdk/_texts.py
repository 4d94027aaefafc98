"""What a user may pass as texts, and the checks that are made before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass

import numpy as np

from ._errors import InvalidArgument, InvalidType

Text = str | tuple[str, str]
"""One text, or a pair of texts that are encoded together."""

Tokens = list[str]
"""One text that has been cut into tokens already; `"|||"` stands between those of a pair."""

Texts = str | Iterable[Text | Tokens]


@dataclass(frozen=True)
class TextSource:
    """Texts that are ready to be read once, each checked before it comes out, and tokens as the server reads them."""

    texts: Iterator[Text]
    count: int | None  # None where only reading to the end can tell
    single: bool = False  # the user gave one str, not a collection


def open_texts(texts: Texts, *, is_tokenized: bool = False) -> TextSource:
    """Check `texts`, a collection at once and a stream (a generator, a lazy sequence) as it is read.

    A tuple at the top is a collection like a list; a pair is a tuple within a collection. With `is_tokenized`, an
    element is a list or a tuple of tokens, and comes out as the JSON array that the server reads.
    """
    check = _checked_tokens if is_tokenized else _checked
    if isinstance(texts, str):
        if is_tokenized:
            raise InvalidType("texts is a str; with is_tokenized it is a collection of lists of tokens")
        return TextSource(iter([_checked(texts, None)]), 1, single=True)
    if isinstance(texts, (bytes, bytearray)) or not isinstance(texts, Iterable):
        raise InvalidType(f"texts must be a str or an iterable of str, not {type(texts).__name__}")
    if isinstance(texts, (list, tuple, np.ndarray)):
        if len(texts) == 0:
            raise InvalidArgument("texts is empty: there is nothing to encode")
        return TextSource(iter([check(text, index) for index, text in enumerate(texts)]), len(texts))
    return TextSource(_checked_stream(texts, check), len(texts) if isinstance(texts, Sized) else None)


def _checked_stream(texts: Iterable[object], check: Callable[[object, int], Text]) -> Iterator[Text]:
    index = -1
    for index, text in enumerate(texts):
        yield check(text, index)
    if index < 0:
        raise InvalidArgument("texts is empty: there is nothing to encode")


def _checked(text: object, index: int | None) -> Text:
    name = "the text" if index is None else f"text {index}"
    if isinstance(text, str):
        _check_string(text, name)
        return text
    if isinstance(text, tuple) and len(text) == 2:
        for side, part in zip(("first", "second"), text, strict=True):
            if not isinstance(part, str):
                raise InvalidType(f"{name}: the {side} of the pair is {_kind(part)}, not str")
            _check_string(part, f"{name}: the {side} of the pair")
        return text
    hint = "; a list of tokens needs is_tokenized=True" if isinstance(text, list) else ""
    raise InvalidType(f"{name} is {_kind(text)}; a text is a str, and a pair is a tuple of two str{hint}")


def _checked_tokens(tokens: object, index: int | None) -> str:
    name = f"text {index}"
    if not isinstance(tokens, (list, tuple)):
        raise InvalidType(f"{name} is {_kind(tokens)}; with is_tokenized a text is a list of tokens")
    if not tokens:
        raise InvalidArgument(f"{name} has no tokens: a vector of nothing has no meaning")
    for place, token in enumerate(tokens):
        if not isinstance(token, str):
            raise InvalidType(f"{name}: token {place} is {_kind(token)}, not str")
        _check_string(token, f"{name}: token {place}")
    return json.dumps(tokens, ensure_ascii=False)


def _check_string(text: str, name: str) -> None:
    if not text or text.isspace():
        raise InvalidArgument(f"{name} is {'blank' if text else 'empty'}: a vector of nothing has no meaning")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(
                f"{name} has the lone surrogate {text[error.start]!r} at character {error.start}, "
                "which UTF-8 cannot express: decode it with errors='replace'"
            ) from None


def _kind(value: object) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return type(value).__name__
