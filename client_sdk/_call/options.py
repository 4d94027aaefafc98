"""The options of a call, checked, and as the request parameters that the server reads."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from client_sdk._checks import positive_int, sendable
from client_sdk._errors import InvalidArgument, InvalidType

POOLINGS = ("mean", "max", "mean_max", "cls", "last", "lasttoken", "mean_sqrt_len_tokens", "weightedmean", "pooler")
"""The poolings that a server may know, alone or several joined by "+"; those behind `lasttoken` only if the model has
what they need."""

PAIR_TRUNCATIONS = ("longest_first", "bert_as_service")
"""How a pair that is too long loses tokens: as in transformers, or as in bert-as-service."""

TRUNCATION_SIDES = ("right", "left")
"""Where a text that is too long loses tokens."""

INPUT_TYPES = ("query", "document")
"""What a text is in a search, which decides on the prompt of a request that gives none."""

PRIORITIES = ("interactive", "bulk")
"""Which texts the network takes first. Triton's own request priority does not reach the steps of an ensemble."""


ACTIVATIONS = ("none", "sigmoid", "softmax")
"""What makes scores of a classifier's logits."""


class CountOptions(TypedDict, total=False):
    """The options of `count_tokens`."""

    is_tokenized: bool
    add_special_tokens: bool
    split_special_tokens: bool | None
    prompt: str | None
    prompt_name: str | None
    model_version: int | None
    batch_size: int | None
    show_progress: bool
    timeout: float | None


class TokenOptions(CountOptions, total=False):
    """The options of `encode_tokens`."""

    max_seq_len: int | None
    truncate: bool
    truncation_side: str | None
    pair_truncation: str | None
    mask_cls_sep: bool
    priority: str | None


class EncodeOptions(TokenOptions, total=False):
    """The options of `encode`, but for `precision`, on which the type of its result depends."""

    pooling: str | None
    normalize: bool | None
    truncate_dim: int | None
    ranges: npt.ArrayLike | None


class VectorOptions(EncodeOptions, total=False):
    """The same, and in what form vectors come."""

    precision: str


class HeadOptions(TypedDict, total=False):
    """The options of every method of a family with a head."""

    max_seq_len: int | None
    truncate: bool
    truncation_side: str | None
    prompt: str | None
    prompt_name: str | None
    model_version: int | None
    priority: str | None
    batch_size: int | None
    show_progress: bool
    timeout: float | None


class ScoreOptions(HeadOptions, total=False):
    """The options of `score`."""

    activation: str | None


class TopOptions(ScoreOptions, total=False):
    """The options of `rerank` and `classify`."""

    top_k: int | None


class SparseOptions(HeadOptions, total=False):
    """The options of `encode_sparse`."""

    max_active_dims: int | None


class MultiOptions(HeadOptions, total=False):
    """The options of `encode_multi`."""

    input_type: str | None


def request_parameters(
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    truncate_dim: int | None = None,
    activation: str | None = None,
    max_active_dims: int | None = None,
    max_seq_len: int | None = None,
    truncate: bool = True,
    truncation_side: str | None = None,
    pair_truncation: str | None = None,
    is_tokenized: bool = False,
    add_special_tokens: bool = True,
    split_special_tokens: bool | None = None,
    skip_special_tokens: bool = True,
    mask_cls_sep: bool = False,
    prompt: str | None = None,
    prompt_name: str | None = None,
    input_type: str | None = None,
    priority: str | None = None,
) -> dict[str, bool | int | str]:
    """Only what differs from the server's own defaults is sent, and the priority if the caller chose one."""
    pooling = _pooling(pooling)
    pair_truncation = _choice("pair_truncation", pair_truncation, PAIR_TRUNCATIONS)
    priority = _choice("priority", priority, PRIORITIES)
    normalize = None if normalize is None else _bool("normalize", normalize, "bool or None")
    truncate = _bool("truncate", truncate)
    is_tokenized = _bool("is_tokenized", is_tokenized)
    add_special_tokens = _bool("add_special_tokens", add_special_tokens)
    if split_special_tokens is not None:
        split_special_tokens = _bool("split_special_tokens", split_special_tokens, "bool or None")
    skip_special_tokens = _bool("skip_special_tokens", skip_special_tokens)
    mask_cls_sep = _bool("mask_cls_sep", mask_cls_sep)
    prompt = _string("prompt", prompt)
    prompt_name = _string("prompt_name", prompt_name)
    if prompt is not None and prompt_name is not None:
        raise InvalidArgument("prompt and prompt_name exclude each other: give the prompt itself or its name")
    input_type = _choice("input_type", input_type, INPUT_TYPES)
    if is_tokenized and input_type is not None:
        raise InvalidArgument(
            "encode_query and encode_document put the model's own prompt before texts, and is_tokenized goes without "
            "one: use encode, and put the prompt's tokens into the texts"
        )
    if is_tokenized and not prompt is prompt_name is None:
        raise InvalidArgument("is_tokenized goes without a prompt: put the prompt's tokens into the texts")
    if not add_special_tokens and not is_tokenized:
        raise InvalidArgument("add_special_tokens=False goes together with is_tokenized=True only")
    given: dict[str, bool | int | str | None] = {
        "pooling": pooling,
        "normalize": normalize,
        "truncate_dim": None if truncate_dim is None else positive_int("truncate_dim", truncate_dim),
        "activation": _choice("activation", activation, ACTIVATIONS),
        "max_active_dims": None if max_active_dims is None else positive_int("max_active_dims", max_active_dims),
        "max_seq_len": None if max_seq_len is None else positive_int("max_seq_len", max_seq_len),
        "truncate": None if truncate else False,
        "truncation_side": _choice("truncation_side", truncation_side, TRUNCATION_SIDES),
        "pair_truncation": pair_truncation,
        "is_tokenized": is_tokenized or None,
        "add_special_tokens": None if add_special_tokens else False,
        "split_special_tokens": split_special_tokens,
        "skip_special_tokens": None if skip_special_tokens else False,
        "mask_cls_sep": mask_cls_sep or None,
        "prompt": prompt,
        "prompt_name": prompt_name,
        "input_type": input_type,
        "bulk": None if priority is None else priority == "bulk",
    }
    return {name: value for name, value in given.items() if value is not None}


def _string(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidType(f"{name} must be str or None, not {type(value).__name__}")
    return sendable(name, value)


def _pooling(value: Any) -> str | None:
    pooling = _string("pooling", value)
    if pooling is not None and not {*pooling.split("+")} <= {*POOLINGS}:
        raise InvalidArgument(
            f"pooling {pooling!r} is not known; allowed: {', '.join(POOLINGS)}, or several joined by + (cls+mean)"
        )
    return pooling


def _choice(name: str, value: Any, allowed: tuple[str, ...]) -> str | None:
    choice = _string(name, value)
    if choice is not None and choice not in allowed:
        raise InvalidArgument(f"{name} {choice!r} is not known; allowed: {', '.join(allowed)}")
    return choice


def _bool(name: str, value: Any, allowed: str = "bool") -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidType(f"{name} must be {allowed}, not {type(value).__name__}")
    return bool(value)
