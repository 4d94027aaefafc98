"""Positions as rotations of queries and keys (RoPE, https://arxiv.org/abs/2104.09864): how fast each pair turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from export.errors import ExportError
from export.network.architectures.config import Config


def read(config: Config, theta: float, width: int) -> tuple[float, ...]:
    """Return the frequencies of a head, `width` wide, by the keys that transformers knows.

    Args:
        config: The file; `rope_parameters`, or `rope_theta` and `rope_scaling` of older ones.
        theta: The base where it does not say.
        width: Of a head.

    Raises:
        ExportError: The rotations are scaled in some way, or they are of a part of a head, or heads are of odd width.
    """
    given = config.mapping("rope_parameters") or config.mapping("rope_scaling")
    return of(config, {"rope_theta": config.number("rope_theta", theta), **given}, theta, width)


def of(config: Config, parameters: Mapping[str, Any], theta: float, width: int) -> tuple[float, ...]:
    """Return the frequencies by `parameters`, an entry of transformers' rope_parameters."""
    values = Config(config.path, dict(parameters))
    kind = values.get("rope_type", values.get("type", "default"))
    if kind != "default":
        raise Config(config.path, {"rope_type": kind}).error("rope_type", "export works for default")
    for place in (config, values):
        place.only("partial_rotary_factor", (1,), 1)
    base = values.number("rope_theta", theta)
    if base < 1:
        raise values.error("rope_theta", "a number of 1 on is expected")
    if width % 2:
        raise ExportError(
            f"{config.path}: heads are {width} wide (head_dim, or hidden_size / num_attention_heads); rotations are of "
            "pairs, so an even width is expected"
        )
    return frequencies(base, width)


def frequencies(theta: float, width: int) -> tuple[float, ...]:
    """Return the frequencies of the base `theta`: in FP32, as PyTorch computes them."""
    exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    return tuple((np.float32(1) / np.float32(theta) ** exponents).tolist())
