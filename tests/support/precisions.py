"""Vectors on which the precisions are tried: signs, zeros of both, values outside their ranges, and at their edges."""

import numpy as np


def vectors(dimension: int) -> np.ndarray:
    """[203, D] float32."""
    rng = np.random.default_rng(dimension)
    rows = rng.standard_normal((200, dimension)).astype(np.float32)
    rows *= rng.choice([1e-3, 1, 30], (200, dimension)).astype(np.float32)
    special = np.stack([np.zeros(dimension), np.full(dimension, -0.0), rows[0] * 4]).astype(np.float32)
    return np.concatenate([rows, special])


def ranges(dimension: int) -> np.ndarray:
    """[2, D] float32, of a part of them; the first number has always the same value there."""
    part = vectors(dimension)[:150]
    part[:, 0] = 0.5
    return np.stack([part.min(axis=0), part.max(axis=0)])
