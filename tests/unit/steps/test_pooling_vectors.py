"""The arithmetic of the pooling is that of plain float64, and what it cannot do it says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.support import step_models

modules = step_models.load("pooling")
vectors = modules["vectors"]
CHANCE = np.random.default_rng(0)
POOLED = CHANCE.standard_normal((5, 4, 6)).astype(np.float32)  # mean, max, first, last of 5 texts
EXACT = POOLED.astype(np.float64)


@pytest.mark.parametrize(
    ("pooling", "is_finite"), [("max", False), ("mean_max", False), ("mean", False), ("cls", True)]
)
def test_a_maximum_passes_over_no_token_that_is_not_finite(pooling: str, is_finite: bool):
    settings = {"pooling": pooling, "normalize": "true"}
    pooled = POOLED.copy()
    pooled[3, 0] = np.nan  # the mean of tokens of which one is, and which the maximum may have passed over
    embedding = modules["embedding"].Embedding(settings, ["pooled"], "")
    assert embedding.compute({}, {"pooled": pooled}.__getitem__)[1].tolist() == [True, True, True, is_finite, True]
    assert embedding.compute({}, {"pooled": pooled[:0]}.__getitem__)[1].tolist() == []


@pytest.mark.parametrize(
    ("pooling", "places"),
    [
        ("mean", [0]),
        ("max", [1]),
        ("mean_max", [0, 1]),
        ("cls", [2]),
        ("last", [3]),
        ("lasttoken", [3]),
        ("mean+max", [0, 1]),
        ("max+mean", [1, 0]),
        ("lasttoken+cls+mean_max", [3, 2, 0, 1]),
    ],
)
def test_a_pooling_is_its_reductions_side_by_side(pooling: str, places: list[int]):
    parts = vectors.parts(pooling, vectors.REDUCTIONS)
    assert [vectors.REDUCTIONS.index(part) for part in parts] == places
    expected = np.concatenate([EXACT[:, place] for place in places], axis=1)
    assert vectors.reduced(POOLED, places).tolist() == expected.tolist()
    assert vectors.reduced(POOLED[:0], places).shape == (0, expected.shape[1])


@pytest.mark.parametrize(
    "pooling",
    ["median", "", "mean+", "+", "mean+mean", "last+lasttoken", "mean_max+max", "mean, max", "pooler", "cls+pooler", 3]
    + ["weightedmean", "mean_sqrt_len_tokens", "cls+weightedmean", None, True, "first"],
)
def test_what_is_no_pooling_of_the_reductions_that_are_there_has_no_parts(pooling: Any):
    assert vectors.parts(pooling, vectors.REDUCTIONS) == ()


def test_a_network_with_more_reductions_has_more_poolings():
    more = [*vectors.REDUCTIONS, "weightedmean"]
    assert vectors.parts("weightedmean+cls", more) == ("weightedmean", "first")
    assert vectors.parts("mean_sqrt_len_tokens", more) == ()


PLAIN = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: x * (x > 0),
    "gelu": lambda x: x * np.vectorize(lambda v: (1 + math.erf(v / 2**0.5)) / 2)(x),  # x times the normal distribution
    "sigmoid": lambda x: (1 + np.tanh(x / 2)) / 2,
    "silu": lambda x: x * (1 + np.tanh(x / 2)) / 2,
    "leaky_relu": lambda x: np.maximum(x, 0) + 0.01 * np.minimum(x, 0),
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
    layers = [
        vectors.stage(kind, {"weight": w.T, "bias": b}) for w, b, kind in zip(weights, biases, kinds, strict=True)
    ]
    expected = EXACT[:, 0]
    for w, b, kind in zip(weights, biases, kinds, strict=True):
        expected = PLAIN[kind](expected @ w.astype(np.float64) + b)
    found = vectors.transformed(POOLED[:, 0], layers)
    assert found.dtype == np.float32 and found.shape == (5, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert vectors.transformed(POOLED[:, 0], []).tolist() == EXACT[:, 0].tolist()


def random(*shape: int) -> np.ndarray:
    return CHANCE.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "arrays", "exact"),
    [
        ("tanh", {"weight": random(3, 6)}, lambda x, w: np.tanh(x @ w.T)),
        ("tanh+residual", {"weight": random(6, 6)}, lambda x, w: np.tanh(x @ w.T) + x),
        ("relu+residual", {"weight": random(6, 6), "bias": random(6)}, lambda x, w, b: np.maximum(x @ w.T + b, 0) + x),
        ("identity+residual", {"weight": random(3, 6), "residual": random(3, 6)}, lambda x, w, r: x @ (w + r).T),
        ("normalize", {}, lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)),
        (
            "layer_norm",
            {"weight": random(6), "bias": random(6)},
            lambda x, w, b: (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * w + b,
        ),
    ],
)
def test_a_stage_behind_the_pooling_is_that_of_float64(kind: str, arrays: dict[str, Any], exact: Any):
    found = vectors.transformed(POOLED[:, 0], [vectors.stage(kind, arrays)])
    expected = exact(EXACT[:, 0], *(array.astype(np.float64) for array in arrays.values()))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_vector_of_zeros_goes_through_every_stage():
    zeros = np.zeros((1, 6), np.float32)
    arrays = {"weight": np.ones(6, np.float32), "bias": np.zeros(6, np.float32)}
    stages = [vectors.stage("normalize", {}), vectors.stage("layer_norm", arrays), vectors.stage("normalize", {})]
    assert vectors.transformed(zeros, stages).tolist() == zeros.tolist()


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
    layer = vectors.stage("identity", {"weight": np.full((2, 2), 3e38, np.float32)})
    found = vectors.transformed(np.array([[10, 10]], np.float32), [layer])
    assert vectors.finished(found, False)[1].tolist() == [False]
