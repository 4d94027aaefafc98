"""Checks of what callers give, and its limits."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

from client_sdk._errors import InvalidArgument, InvalidType

LARGEST_INT = 2**63 - 1
"""Both protocols carry integers of 64 bits."""

LONGEST_TEXT = 1 << 20
"""Bytes of UTF-8; servers take no longer text."""

LONGEST_TIMEOUT = 30 * 24 * 3600.0
"""Seconds. More than that is no other wish, and too much for the clocks of the libraries below."""

LARGEST_PORT = 65_535


def positive_int(name: str, value: Any) -> int:
    """`value` as an int of at least 1; numpy's integers too, a bool not."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise InvalidType(f"{name} must be an int, not {type(value).__name__}")
    if abs(number) > LARGEST_INT:
        raise InvalidArgument(f"{name} must be between 1 and {LARGEST_INT}")
    if number < 1:
        raise InvalidArgument(f"{name} must be at least 1, not {number}")
    return number


def seconds(name: str, value: Any) -> float:
    """`value`, any positive, finite number, as seconds; LONGEST_TIMEOUT at most: no call may wait for ever."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number:
        raise InvalidType(f"{name} must be a number of seconds, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:  # an int that no float reaches
        number = LONGEST_TIMEOUT if value > 0 else -LONGEST_TIMEOUT
    if not (math.isfinite(number) and number > 0):
        raise InvalidArgument(f"{name} must be a positive, finite number of seconds, not {number:g}")
    return min(number, LONGEST_TIMEOUT)


def sendable(name: str, value: str) -> str:
    """`value` as a plain str, if it reaches the server as it is."""
    if "\0" in value:
        raise InvalidArgument(f"{name} has a NUL at character {value.index(chr(0))}, where Triton cuts it: remove it")
    if problem := utf8_problem(value):
        raise InvalidArgument(f"{name} {problem}")
    return str.__str__(value)  # a subclass may not be what the libraries below expect


def utf8_problem(text: str) -> str | None:
    """What is wrong with a text that has half of a surrogate pair; None for all others."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return (
            f"has the lone surrogate {text[error.start]!r} at character {error.start}, which UTF-8 cannot express: "
            "decode it with errors='replace'"
        )
    return None


def too_long(text: str) -> str | None:
    """What is wrong with a text of more than LONGEST_TEXT bytes; None for all others."""
    if 4 * len(text) <= LONGEST_TEXT or (size := len(text.encode())) <= LONGEST_TEXT:
        return None
    return f"{size} bytes; a text may have {LONGEST_TEXT} bytes at most"
