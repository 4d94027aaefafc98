"""What a user may pass as texts, and the checks that are made before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass

import numpy as np

from ._errors import InvalidArgument, InvalidType

Text = str | tuple[str, str]
"""One text, or a pair of texts that are encoded together."""

Texts = str | Iterable[Text]


@dataclass(frozen=True)
class TextSource:
    """Texts that are ready to be read once, each checked before it comes out."""

    texts: Iterator[Text]
    count: int | None  # None where only reading to the end can tell
    single: bool = False  # the user gave one str, not a collection


def open_texts(texts: Texts) -> TextSource:
    """Check `texts`, a collection at once and a stream (a generator, a lazy sequence) as it is read.

    A tuple at the top is a collection like a list; a pair is a tuple within a collection.
    """
    if isinstance(texts, str):
        _check(texts, None)
        return TextSource(iter([texts]), 1, single=True)
    if isinstance(texts, (bytes, bytearray)) or not isinstance(texts, Iterable):
        raise InvalidType(f"texts must be a str or an iterable of str, not {type(texts).__name__}")
    if isinstance(texts, (list, tuple, np.ndarray)):
        if len(texts) == 0:
            raise InvalidArgument("texts is empty: there is nothing to encode")
        for index, text in enumerate(texts):
            _check(text, index)
        return TextSource(iter(texts), len(texts))
    return TextSource(_checked_stream(texts), len(texts) if isinstance(texts, Sized) else None)


def _checked_stream(texts: Iterable[Text]) -> Iterator[Text]:
    index = -1
    for index, text in enumerate(texts):
        _check(text, index)
        yield text
    if index < 0:
        raise InvalidArgument("texts is empty: there is nothing to encode")


def _check(text: object, index: int | None) -> None:
    name = "the text" if index is None else f"text {index}"
    if isinstance(text, str):
        _check_string(text, name)
    elif isinstance(text, tuple) and len(text) == 2:
        for side, part in zip(("first", "second"), text, strict=True):
            if not isinstance(part, str):
                raise InvalidType(f"{name}: the {side} of the pair is {_kind(part)}, not str")
            _check_string(part, f"{name}: the {side} of the pair")
    else:
        raise InvalidType(f"{name} is {_kind(text)}; a text is a str, and a pair is a tuple of two str")


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
