"""Texts as several protocols write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, FailFast, PlainValidator, WithJsonSchema

TEXT_SHOWN: dict[str, Any] = {"type": "string", "minLength": 1, "pattern": r"\S"}
"""What the OpenAPI page says of a text, which may not be blank: found out where it is encoded."""


def list_of(items: dict[str, Any]) -> dict[str, Any]:
    """What the page says of a list, which may not be empty."""
    return {"type": "array", "items": items, "minItems": 1}


def _checked(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise ValueError("must be a text or a list of texts")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"text {index} is not a string")
    return texts


def _checked_or_ids(value: Any) -> list[str] | list[list[int]]:
    if not isinstance(value, list) or not value:
        return _checked(value)
    if isinstance(value[0], list):
        for index, ids in enumerate(value):
            if not _are_ids(ids):
                raise ValueError(f"text {index} is not a list of token ids, as others are")
        return value
    return [value] if _are_ids(value) else _checked(value)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and {*map(type, value)} == {int}


def _checked_ids(value: Any) -> list[list[int]]:
    rows = [value] if _are_ids(value) else value
    if not isinstance(rows, list) or not rows:
        raise ValueError("must be a list of token ids, or a list of such lists, and not empty")
    for index, ids in enumerate(rows):
        if not _are_ids(ids):
            raise ValueError(f"{index} is not a list of token ids, or is empty")
    return rows


def ids_options(texts: Sequence[str] | Sequence[list[int]]) -> dict[str, Any]:
    """A client's options for texts that are token ids; none for others."""
    return {} if isinstance(texts[0], str) else {"is_tokenized": True, "pair_truncation": "longest_first"}


OneText = Annotated[str, WithJsonSchema(TEXT_SHOWN)]
"""A text."""

Texts = Annotated[list[str], FailFast(), WithJsonSchema(list_of(TEXT_SHOWN))]
"""A list of texts. Of what is wrong in a list the first is said: a message for each costs seconds and gigabytes."""

TextOrTexts = Annotated[
    list[str], BeforeValidator(_checked), WithJsonSchema({"anyOf": [TEXT_SHOWN, list_of(TEXT_SHOWN)]})
]
"""A text, or a list of them."""


_IDS_SHOWN = list_of({"type": "integer", "minimum": 0})

TextsOrIds = Annotated[
    list[str] | list[list[int]],
    PlainValidator(_checked_or_ids),
    WithJsonSchema({"anyOf": [TEXT_SHOWN, list_of(TEXT_SHOWN), _IDS_SHOWN, list_of(_IDS_SHOWN)]}),
]
"""A text, or a list of them; or the token ids of one, or of several."""


Ids = Annotated[
    list[list[int]], PlainValidator(_checked_ids), WithJsonSchema({"anyOf": [_IDS_SHOWN, list_of(_IDS_SHOWN)]})
]
"""The token ids of a text, or of several."""


def _document(value: Any) -> str:
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise ValueError("must be a text, or an object with `text`")
    return text


_DOCUMENT_SHOWN = {"anyOf": [TEXT_SHOWN, {"type": "object", "properties": {"text": TEXT_SHOWN}, "required": ["text"]}]}

Document = Annotated[str, BeforeValidator(_document), WithJsonSchema(_DOCUMENT_SHOWN)]
"""A text, or an object that has it as `text`."""

Documents = Annotated[list[Document], FailFast(), WithJsonSchema(list_of(_DOCUMENT_SHOWN))]
"""A list of those."""
