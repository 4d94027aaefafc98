"""Positions as rotations of queries and keys (RoPE, https://arxiv.org/abs/2104.09864): how fast each pair turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from export.network.architectures.config import Config


def read(config: Config, theta: float, width: int) -> tuple[float, ...]:
    """Return the frequencies of a head, `width` wide, by the keys that transformers knows.

    Args:
        config: The file; `rope_parameters`, or `rope_theta` and `rope_scaling` of older ones.
        theta: The base where it does not say.
        width: Of a head.

    Raises:
        ExportError: The rotations are scaled in some way, or they are of a part of a head.
    """
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise config.error("rope_parameters", "an object is expected")
    return of(config, {"rope_theta": config.number("rope_theta", theta), **given}, theta, width)


def of(config: Config, parameters: Mapping[str, Any], theta: float, width: int) -> tuple[float, ...]:
    """Return the frequencies by `parameters`, an entry of transformers' rope_parameters."""
    values = Config(config.path, {**parameters, "partial_rotary_factor": config.get("partial_rotary_factor", 1.0)})
    kind = values.get("rope_type", values.get("type", "default"))
    if kind != "default":
        raise Config(config.path, {"rope_type": kind}).error("rope_type", "export works for default")
    values.only("partial_rotary_factor", (1, 1.0))
    return frequencies(values.number("rope_theta", theta), width)


def frequencies(theta: float, width: int) -> tuple[float, ...]:
    """Return the frequencies of the base `theta`: in FP32, as PyTorch computes them."""
    exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    return tuple((np.float32(1) / np.float32(theta) ** exponents).tolist())
