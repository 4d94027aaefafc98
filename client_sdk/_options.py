"""The options of a call, checked, and as the request parameters that the server reads."""

from __future__ import annotations

import math
import operator
from typing import Any, TypedDict

from ._errors import InvalidArgument, InvalidType

POOLINGS = ("mean", "max", "mean_max", "cls", "last", "pooler")
"""The poolings that a server may know; `pooler` only if the checkpoint has one."""

PAIR_TRUNCATIONS = ("longest_first", "bert_as_service")
"""How a pair that is too long loses tokens: as in transformers, or as in bert-as-service."""

PRIORITIES = ("interactive", "bulk")
"""Which texts the network takes first. Triton's own request priority does not reach the steps of an ensemble."""


class CountOptions(TypedDict, total=False):
    """The options of `count_tokens`."""

    is_tokenized: bool
    add_special_tokens: bool
    split_special_tokens: bool
    prompt: str | None
    prompt_name: str | None
    model_version: int | None
    batch_size: int
    show_progress: bool
    timeout: float | None


class TokenOptions(CountOptions, total=False):
    """The options of `encode_tokens`."""

    max_seq_len: int | None
    truncate: bool
    pair_truncation: str | None
    mask_cls_sep: bool
    priority: str


def request_parameters(
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    truncate_dim: int | None = None,
    max_seq_len: int | None = None,
    truncate: bool = True,
    pair_truncation: str | None = None,
    is_tokenized: bool = False,
    add_special_tokens: bool = True,
    split_special_tokens: bool = False,
    mask_cls_sep: bool = False,
    prompt: str | None = None,
    prompt_name: str | None = None,
    priority: str = "interactive",
) -> dict[str, bool | int | str]:
    """Only what differs from the server's own defaults is sent."""
    _check_type("pooling", pooling, str, optional=True)
    _check_type("normalize", normalize, bool, optional=True)
    _check_type("truncate", truncate, bool)
    _check_type("pair_truncation", pair_truncation, str, optional=True)
    _check_type("is_tokenized", is_tokenized, bool)
    _check_type("add_special_tokens", add_special_tokens, bool)
    _check_type("split_special_tokens", split_special_tokens, bool)
    _check_type("mask_cls_sep", mask_cls_sep, bool)
    _check_type("prompt", prompt, str, optional=True)
    _check_type("prompt_name", prompt_name, str, optional=True)
    _check_type("priority", priority, str)
    _check_choice("pooling", pooling, POOLINGS)
    _check_choice("pair_truncation", pair_truncation, PAIR_TRUNCATIONS)
    _check_choice("priority", priority, PRIORITIES)
    if prompt is not None and prompt_name is not None:
        raise InvalidArgument("prompt and prompt_name exclude each other: give the prompt itself or its name")
    if is_tokenized and (prompt is not None or prompt_name is not None):
        raise InvalidArgument("is_tokenized goes without a prompt: put the prompt's tokens into the texts")
    if not add_special_tokens and not is_tokenized:
        raise InvalidArgument("add_special_tokens=False goes together with is_tokenized=True only")
    given: dict[str, bool | int | str | None] = {
        "pooling": pooling,
        "normalize": normalize,
        "truncate_dim": None if truncate_dim is None else positive_int("truncate_dim", truncate_dim),
        "max_seq_len": None if max_seq_len is None else positive_int("max_seq_len", max_seq_len),
        "truncate": None if truncate else False,
        "pair_truncation": pair_truncation,
        "is_tokenized": is_tokenized or None,
        "add_special_tokens": None if add_special_tokens else False,
        "split_special_tokens": split_special_tokens or None,
        "mask_cls_sep": mask_cls_sep or None,
        "prompt": prompt,
        "prompt_name": prompt_name,
        "bulk": True if priority == "bulk" else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def positive_int(name: str, value: Any) -> int:
    """`value` as an int of at least 1; numpy's integers too, a bool not."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise InvalidType(f"{name} must be an int, not {type(value).__name__}")
    if number < 1:
        raise InvalidArgument(f"{name} must be at least 1, not {number}")
    return number


def seconds(name: str, value: Any) -> float:
    """`value` as a positive, finite number of seconds: no call may wait for ever."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidType(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not (math.isfinite(value) and value > 0):
        raise InvalidArgument(f"{name} must be a positive, finite number of seconds, not {value}")
    return float(value)


def _check_choice(name: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise InvalidArgument(f"{name} {value!r} is not known; allowed: {', '.join(allowed)}")


def _check_type(name: str, value: Any, wanted: type, *, optional: bool = False) -> None:
    if not isinstance(value, wanted) and not (optional and value is None):
        allowed = f"{wanted.__name__} or None" if optional else wanted.__name__
        raise InvalidType(f"{name} must be {allowed}, not {type(value).__name__}")
