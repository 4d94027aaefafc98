"""The arithmetic of the pooling is that of plain float64, and what it cannot do it says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.support import step_models

vectors = step_models.load("pooling")["vectors"]
CHANCE = np.random.default_rng(0)
POOLED = CHANCE.standard_normal((5, 4, 6)).astype(np.float32)  # mean, max, first, last of 5 texts
EXACT = POOLED.astype(np.float64)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", EXACT[:, 0]),
        ("max", EXACT[:, 1]),
        ("mean_max", np.concatenate([EXACT[:, 0], EXACT[:, 1]], axis=1)),
        ("cls", EXACT[:, 2]),
        ("last", EXACT[:, 3]),
    ],
)
def test_a_pooling_is_its_reductions_side_by_side(pooling: str, expected: Any):
    assert vectors.reduced(POOLED, pooling).tolist() == expected.tolist()
    assert vectors.reduced(POOLED[:0], pooling).shape == (0, expected.shape[1])


PLAIN = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: x * (x > 0),
    "gelu": lambda x: x * np.vectorize(lambda v: (1 + math.erf(v / 2**0.5)) / 2)(x),  # x times the normal distribution
}


@pytest.mark.parametrize("activation", vectors.ACTIVATIONS)
def test_an_activation_is_that_of_float64_and_stays_float32(activation: str):
    x = np.linspace(-6, 6, 97, dtype=np.float32)[:, None]
    found = vectors.ACTIVATIONS[activation](x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, PLAIN[activation](x.astype(np.float64)), rtol=1e-6, atol=1e-6)


def test_dense_layers_follow_one_another():
    shapes, kinds = [(6, 9), (9, 3)], ["tanh", "gelu"]
    weights = [CHANCE.standard_normal(shape).astype(np.float32) for shape in shapes]
    biases = [CHANCE.standard_normal(shape[1]).astype(np.float32) for shape in shapes]
    layers = [(w, b, vectors.ACTIVATIONS[kind]) for w, b, kind in zip(weights, biases, kinds, strict=True)]
    expected = EXACT[:, 0]
    for w, b, kind in zip(weights, biases, kinds, strict=True):
        expected = PLAIN[kind](expected @ w.astype(np.float64) + b)
    found = vectors.transformed(POOLED[:, 0], layers)
    assert found.dtype == np.float32 and found.shape == (5, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert vectors.transformed(POOLED[:, 0], []).tolist() == EXACT[:, 0].tolist()


@pytest.mark.parametrize("size", [1, 4, 6])
def test_a_cut_vector_is_normalised_by_the_length_of_what_is_left_of_it(size: int):
    left = EXACT[:, 0, :size]
    found, finite = vectors.finished(POOLED[:, 0, :size], True)
    assert found.dtype == np.float32 and found.flags.c_contiguous and finite.all()
    np.testing.assert_allclose(found, left / np.linalg.norm(left, axis=1, keepdims=True), rtol=1e-6)
    plain, finite = vectors.finished(POOLED[:, 0, :size], False)
    assert plain.tolist() == left.tolist() and plain.flags.c_contiguous and finite.all()


def test_a_vector_of_zeros_stays_one_and_tiny_ones_get_the_length_1():
    tiny = np.float32(1e-10)
    found, finite = vectors.finished(np.array([[0, 0], [3 * tiny, 4 * tiny]], np.float32), True)
    assert finite.all() and found[0].tolist() == [0, 0]
    np.testing.assert_allclose(found[1], [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("row", "plain", "normalized"),
    [
        ([1, 2], True, True),
        ([np.nan, 2], False, False),
        ([1, np.inf], False, False),
        ([-np.inf, np.inf], False, False),
        ([3e38, 1], True, False),  # a number, but its square is none
    ],
)
def test_what_is_not_finite_is_told_row_by_row_and_warns_of_nothing(row: list[float], plain: bool, normalized: bool):
    rows = np.array([[1, 1], row, [0, 0]], np.float32)
    assert vectors.finished(rows, False)[1].tolist() == [True, plain, True]
    assert vectors.finished(rows, True)[1].tolist() == [True, normalized, True]


def test_a_dense_layer_that_overflows_warns_of_nothing_either():
    layer = (np.full((2, 2), 3e38, np.float32), np.zeros(2, np.float32), vectors.ACTIVATIONS["identity"])
    found = vectors.transformed(np.array([[10, 10]], np.float32), [layer])
    assert vectors.finished(found, False)[1].tolist() == [False]
