"""The last step of a family like BGE-M3 makes sparse vectors of the weights of tokens."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from tests.support import step_models

modules = step_models.load("pooling")
Refused = modules["refused"].Refused
IDS = np.array([[0, 7, 9, 7, 5, 2], [0, 9, 2, 1, 1, 1]], np.int32)
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]], np.int32)
WEIGHTS = np.array([[9, 0.5, 0.25, 0.75, -3, 9], [9, 2, 9, 9, 9, 9]], np.float32)[..., np.newaxis]


def compute(ids: Any = IDS, mask: Any = MASK, weights: Any = WEIGHTS, **parameters: Any) -> Any:
    inputs = {"token_weights": weights, "input_ids": ids, "attention_mask": mask}
    return modules["lexical"].Lexical({"lexical": "[0, 2, 3]"}).compute(parameters, inputs.__getitem__)


def test_a_word_weighs_the_most_that_any_of_its_tokens_does_and_special_tokens_are_no_words():
    (indices, weights), finite = compute()
    assert indices.tolist() == [[7, 9], [9, -1]] and weights.tolist() == [[0.75, 0.25], [2, 0]]
    assert (indices.dtype, weights.dtype, finite.tolist()) == (np.int32, np.float32, [True, True])
    assert indices.flags.c_contiguous and weights.flags.c_contiguous


def test_words_are_those_that_counting_one_token_after_another_finds():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 12, (40, 30)).astype(np.int32)
    mask = (rng.random(ids.shape) < 0.8).astype(np.int32)
    values = rng.standard_normal((*ids.shape, 1)).astype(np.float32)
    (indices, weights), _ = compute(ids, mask, values)
    for row, found, weighed in zip(range(40), indices, weights, strict=True):
        words: defaultdict[int, float] = defaultdict(float)
        for index, attended, weight in zip(ids[row].tolist(), mask[row], values[row, :, 0].tolist(), strict=True):
            if attended and index not in (0, 2, 3) and weight > words[index]:
                words[index] = weight
        best = sorted((-weight, index) for index, weight in words.items() if weight > 0)
        assert [index for _, index in best] == found[: len(best)].tolist()
        np.testing.assert_array_equal(weighed[: len(best)], [-weight for weight, _ in best])
        assert (found[len(best) :] == -1).all() and not weighed[len(best) :].any()


@pytest.mark.parametrize(("asked", "width"), [(1, 1), (2, 2), (99, 2)])
def test_the_heaviest_are_kept(asked, width):
    (indices, weights), _ = compute(max_active_dims=asked)
    assert indices.tolist() == [[7, 9][:width], [9, -1][:width]]
    assert weights.tolist() == [[0.75, 0.25][:width], [2, 0][:width]]


def test_a_text_of_no_word_at_all_has_an_empty_row():
    (indices, weights), finite = compute(weights=-WEIGHTS[:, :1], ids=IDS[:, :1], mask=MASK[:, :1])
    assert indices.tolist() == [[-1], [-1]] and weights.tolist() == [[0], [0]] and finite.all()


@pytest.mark.parametrize("value", [0, "3", True])
def test_another_number_is_refused(value):
    with pytest.raises(Refused, match="parameter max_active_dims is .*; it takes 1 and more"):
        compute(max_active_dims=value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_text_with_a_weight_that_is_not_finite_is_known_whatever_token_it_is_of(value):
    weights = WEIGHTS.copy()
    weights[1, 0, 0] = value
    assert compute(weights=weights)[1].tolist() == [True, False]
