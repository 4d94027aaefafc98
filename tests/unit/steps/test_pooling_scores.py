"""The arithmetic of scores is that of plain float64, and what it cannot do it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support import step_models

modules = step_models.load("pooling")
scores, Refused = modules["scores"], modules["refused"].Refused

LOGITS = np.array([[0.3, -2.5, 4], [-1000, 1000, 0], [1e30, -1e30, 88.9], [0, 0, 0]], np.float32)


def compute(default: str, logits: np.ndarray = LOGITS, **parameters: Any) -> tuple[np.ndarray, np.ndarray]:
    kind = scores.Scores({"labels": '["a", "b", "c"]', "activation": default})
    (found,), finite = kind.compute(parameters, {"logits": logits}.__getitem__)
    return found, finite


def exact(activation: str) -> np.ndarray:
    x = LOGITS.astype(np.longdouble)
    if activation == "softmax":
        powers = np.exp(x - x.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x)) if activation == "sigmoid" else x


@pytest.mark.parametrize("activation", scores.ACTIVATIONS)
def test_an_activation_is_that_of_its_name_for_any_logit(activation: str):
    for found, finite in (compute(activation), compute("none", activation=activation)):
        np.testing.assert_allclose(found, exact(activation).astype(np.float32), rtol=1e-6, atol=1e-7)
        assert found.dtype == np.float32 and found.flags.c_contiguous and finite.all()


@pytest.mark.parametrize("activation", scores.ACTIVATIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_text_whose_logits_are_not_finite_is_known(activation: str, bad: float):
    logits = LOGITS.copy()
    logits[2, 1] = bad
    _, finite = compute(activation, logits)
    assert finite.tolist() == [True, True, False, True]


@pytest.mark.parametrize("activation", ["tanh", "", "x" * 1000, 1, True])
def test_another_activation_is_refused_with_what_there_is(activation: Any):
    with pytest.raises(Refused, match="parameter activation is .*; it takes none, sigmoid, softmax") as error:
        compute("none", activation=activation)
    assert len(str(error.value)) < 200
