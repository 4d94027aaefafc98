"""The last step of a family of sparse vectors cuts them, and says what it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support import step_models

modules = step_models.load("pooling")
Refused = modules["refused"].Refused
INDICES = np.array([[5, 3, 8, -1, -1], [1, -1, -1, -1, -1]], np.int32)
WEIGHTS = np.array([[3, 2, 1, 0, 0], [4, 0, 0, 0, 0]], np.float32)


def compute(default: str | None = None, weights: np.ndarray = WEIGHTS, **parameters: Any) -> Any:
    settings = {"splade": "max relu", "dimension": "9"} | ({"max_active_dims": default} if default else {})
    return modules["sparse"].Sparse(settings).compute(parameters, {"indices": INDICES, "weights": weights}.__getitem__)


@pytest.mark.parametrize(
    ("default", "asked", "width"), [(None, None, 3), ("2", None, 2), ("2", 3, 3), (None, 1, 1), (None, 99, 3)]
)
def test_the_heaviest_are_kept_and_no_column_that_all_lack(default, asked, width):
    (indices, weights), finite = compute(default, **({} if asked is None else {"max_active_dims": asked}))
    np.testing.assert_array_equal(indices, INDICES[:, :width])
    np.testing.assert_array_equal(weights, WEIGHTS[:, :width])
    assert indices.flags.c_contiguous and weights.flags.c_contiguous and finite.all()


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True])
def test_another_number_is_refused(value):
    with pytest.raises(Refused, match="parameter max_active_dims is .*; it takes 1 and more"):
        compute(max_active_dims=value)


def test_a_text_whose_weights_are_not_finite_is_known():
    weights = WEIGHTS.copy()
    weights[1] = np.nan
    assert compute(weights=weights)[1].tolist() == [True, False]


def test_every_kind_refuses_what_is_for_others():
    kinds = ("Embedding", "Scores", "Sparse", "Lexical", "Multi")
    of_others = [{*getattr(modules[kind.lower()], kind).of_others} for kind in kinds]
    every = {"pooling", "normalize", "truncate_dim", "activation", "max_active_dims"}
    own = ({"pooling", "normalize", "truncate_dim"}, {"activation"}, *[{"max_active_dims"}] * 2, set())
    assert of_others == [every - names for names in own]
