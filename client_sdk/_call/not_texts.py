"""What is often given as texts and is none, and what to write instead.

Tables and arrays of other packages are known by what they have, so that none of these packages is imported.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import AsyncIterable, Awaitable, Collection, ItemsView, Iterable, KeysView, Mapping, Set
from numbers import Number
from typing import Any

import numpy as np


def instead_of_texts(texts: Any) -> str | None:
    """What to write instead of `texts`, which stands where a collection of texts should; None if it may be one."""
    kind = type(texts)
    if isinstance(texts, (bytes, bytearray, memoryview)):
        return "decode it, as in texts.decode()"
    if isinstance(texts, os.PathLike):
        return "give what the file holds, as in open(path, encoding='utf-8').read().splitlines()"
    if hasattr(kind, "readline"):
        return "its lines end in line breaks: give file.read().splitlines()"
    if hasattr(kind, "columns") or hasattr(kind, "column_names"):
        return "it is a table, whose column to encode has to be chosen: give one, as in texts['text']"
    if isinstance(texts, Mapping):
        return "give list(texts.values()) or list(texts) to say whether values or keys are meant"
    if isinstance(texts, ItemsView):
        return "give list(mapping.values()), or list(mapping.items()) if keys and values are the pairs to encode"
    if isinstance(texts, Set) and not isinstance(texts, KeysView):
        return "a set has no order that rows could follow: keep texts = list(a_set), and give that"
    if isinstance(getattr(texts, "ndim", 1), int) and getattr(texts, "ndim", 1) != 1:
        if texts.ndim == 0:
            return "it has no dimension: give the text that it holds, as in texts.item()"
        return f"it has {texts.ndim} dimensions: give a column, as in texts[:, 0], or list(map(tuple, texts)) for pairs"
    if isinstance(texts, array):
        return "it holds single characters or numbers: give a list of str"
    if hasattr(kind, "as_py"):
        return "give its as_py()"
    if isinstance(texts, AsyncIterable):
        return "only AsyncClient reads it: give [text async for text in texts]"
    if isinstance(texts, Awaitable):
        return "await it first, and give what comes"
    if isinstance(texts, Iterable):
        return None
    return "call it, and give what it returns" if callable(texts) else ""


def instead_of_text(value: Any) -> str:
    """What to write instead of `value`, which stands where one text should; empty if there is nothing to say."""
    if _is_missing(value):
        return "; it is a missing value: leave it out, or put a text in its place"
    if isinstance(value, (bytes, bytearray)):
        return "; decode it, as in text.decode()"
    if isinstance(value, Mapping):
        return "; give the field that holds the text, as in [row['text'] for row in texts]"
    if isinstance(value, list):
        return "; a list of tokens needs is_tokenized=True, and a pair that is a list is given as tuple(pair)"
    if hasattr(type(value), "as_py"):
        return "; give its as_py(), or the array that it comes from"
    if isinstance(value, (np.ndarray, np.void)) or (isinstance(value, Collection) and hasattr(value, "dtype")):
        return "; give a pair as a tuple, as in list(map(tuple, texts)), or one column"
    return "; give str(value) if that is what is meant" if isinstance(value, Number) else ""


def _is_missing(value: Any) -> bool:
    """None, NaN, and what pandas has for them."""
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")
