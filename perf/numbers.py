"""Numbers on the command line: what would measure nothing is refused before anything is measured."""

from __future__ import annotations

import argparse

_MOST = 10**9


def count(text: str) -> int:
    """A whole number from 1 on. Raises argparse.ArgumentTypeError."""
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    if not 0 < value <= _MOST:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 1 to {_MOST}")
    return value


def above_zero(text: str) -> float:
    """Seconds, minutes, requests a second. Raises argparse.ArgumentTypeError."""
    value = _number(text)
    if not 0 < value <= _MOST:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number above 0, up to {_MOST}")
    return value


def part(text: str) -> float:
    """A part of something, of which the rest is left. Raises argparse.ArgumentTypeError."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 0 to below 1")
    return value


def percent(text: str) -> float:
    """From 0 to 100. Raises argparse.ArgumentTypeError."""
    value = _number(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 0 to 100")
    return value


def _number(text: str) -> float:
    """NaN, which is within no bounds, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
