"""Texts as several protocols write them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, FailFast

_ADVICE = (
    "holds token ids, which depend on a vocabulary: send texts. LangChain's OpenAIEmbeddings sends texts with "
    "check_embedding_ctx_length=False"
)


def _checked(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise ValueError("must be a text or a list of texts")
    for index, text in enumerate(texts):
        if isinstance(text, (int, list)) and not isinstance(text, bool):
            raise ValueError(_ADVICE)
        if not isinstance(text, str):
            raise ValueError(f"text {index} is not a string")
    return texts


Texts = Annotated[list[str], FailFast()]
"""A list of texts. Of what is wrong in a list the first is said: a message for each costs seconds and gigabytes."""

TextOrTexts = Annotated[list[str], BeforeValidator(_checked, json_schema_input_type=str | list[str])]
"""A text, or a list of them."""


def _document(value: Any) -> str:
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise ValueError("must be a text, or an object with `text`")
    return text


Document = Annotated[str, BeforeValidator(_document, json_schema_input_type=str | dict[str, str])]
"""A text, or an object that has it as `text`."""

Documents = Annotated[list[Document], FailFast()]
"""A list of those."""
