"""What bert-as-service's client takes: its names for things, its checks, and its way to write a pair."""

from __future__ import annotations

import re
from typing import Any

from client_sdk._call.not_texts import instead_of_text, instead_of_texts
from client_sdk._call.texts import Text, Tokens
from client_sdk._checks import positive_int
from client_sdk._errors import InvalidArgument, InvalidType
from client_sdk._transport.address import Address

POOLINGS: dict[str, str | None] = {
    "NONE": None,
    "REDUCE_MAX": "max",
    "REDUCE_MEAN": "mean",
    "REDUCE_MEAN_MAX": "mean_max",
    "CLS_TOKEN": "cls",
    "FIRST_TOKEN": "cls",
    "SEP_TOKEN": "last",
    "LAST_TOKEN": "last",
    "CLS_POOLED": "pooler",
}
"""Its pooling strategies, and what they are called here; NONE is a vector for each token."""

POOLING_NUMBERS = {None: 0, "max": 1, "mean": 2, "mean_max": 3, "cls": 4, "last": 5, "pooler": 6}
"""The numbers that its server_config has for the pooling strategies."""

LEAST_MAX_SEQ_LEN = 4

_PAIR = re.compile(r"(.*) \|\|\| (.*)")  # the last separator splits; no line break may stand in a pair


def server_url(ip: str, port: int | None) -> str | None:
    """The URL for `Client`; None, for the default, where neither host nor port is given."""
    if not isinstance(ip, str):
        raise InvalidType(f"ip must be a str, not {type(ip).__name__}")
    if "/" in ip or ip.count(":") == 1:
        raise InvalidArgument(f"ip must be the name or address of a host alone, and is {ip!r}: give the port as port")
    if port is None:
        return None if ip == "localhost" else str(Address("grpc", ip, 8001))
    return str(Address("grpc", ip, positive_int("port", port)))


def checked_max_seq_len(value: int | str | None) -> int | None:
    """The length as a number, or None for the family's own."""
    if value is None or (isinstance(value, str) and value.upper() == "NONE"):
        return None
    number = positive_int("max_seq_len", value)
    if number < LEAST_MAX_SEQ_LEN:
        raise InvalidArgument(f"max_seq_len must be at least {LEAST_MAX_SEQ_LEN}, or None, not {number}")
    return number


def read_texts(texts: object, is_tokenized: bool) -> list[Text | Tokens]:
    """Check texts as bert-as-service's client does, and give them as `Client` takes them.

    They are a copy: a script may change its list while the request is on its way.

    Raises:
        TypeError: `texts` is not a list, or an element of it (of an element, if tokenized) not a str.
        ValueError: `texts` is empty, or an element is blank.
    """
    found: list[Text | Tokens] = []
    for index, text in enumerate(_checked_list(texts, '"texts"')):
        if is_tokenized:
            name = f'"texts[{index}]"'
            tokens = _checked_list(text, name)
            found.append([_checked_string(token, name, place) for place, token in enumerate(tokens)])
        else:
            found.append(split_pair(_checked_string(text, '"texts"', index)))
    return found


def split_pair(text: str) -> Text:
    """The pair that a text of the form `one ||| other` stands for, or the text itself."""
    match = _PAIR.fullmatch(text.strip())
    return (match[1], match[2]) if match else text


def _checked_list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        advice = "give [text]" if isinstance(value, str) else instead_of_texts(value)
        advice = "give list(texts)" if advice is None else advice
        message = f"{name} must be a list, but received {type(value).__name__}"
        raise TypeError(f"{message}: {advice}" if advice else message)
    if not value:
        raise ValueError(f"{name} must be a non-empty list, but received a list with 0 elements")
    return value


def _checked_string(value: object, name: str, index: int) -> str:
    if not isinstance(value, str):
        kind = f"{type(value).__name__}{instead_of_text(value)}"
        raise TypeError(f"all elements of {name} must be str, but element {index} is {kind}")
    if not value.strip():
        raise ValueError(f"all elements of {name} must be non-empty strings, but element {index} is {value!r}")
    return value
