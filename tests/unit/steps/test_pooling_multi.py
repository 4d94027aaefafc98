"""The last step of a late-interaction family says which tokens' vectors count."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.support import step_models

modules = step_models.load("pooling")
IDS = np.array([[2, 7, 9, 3, 4, 4], [2, 9, 3, 0, 0, 0]], np.int32)
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]], np.int32)
VECTORS = np.arange(24, dtype=np.float32).reshape(2, 6, 2)


def compute(
    skips: list[int] | None = None, types: Any = ("document",), vectors: Any = VECTORS, **parameters: Any
) -> Any:
    settings = {"multi": "identity normalize"}
    if skips is not None:
        settings |= {"skip_ids": json.dumps(skips), "skip_types": json.dumps(types)}
    inputs = {"token_vectors": vectors, "input_ids": IDS, "attention_mask": MASK}
    return modules["multi"].Multi(settings).compute(parameters, inputs.__getitem__)


@pytest.mark.parametrize(
    ("types", "given", "skipped"),
    [
        (["document"], {}, True),
        (["document"], {"input_type": "document"}, True),
        (["document"], {"input_type": "query"}, False),
        (["query"], {"input_type": "query"}, True),
        (["query"], {}, False),
        (["query", "document"], {"input_type": "query"}, True),
        ([], {"input_type": "document"}, False),
    ],
)
def test_tokens_of_the_skip_list_do_not_count_in_texts_of_the_types_that_it_is_for(types, given, skipped):
    (vectors, mask), finite = compute([9, 4, 0, 100], types, **given)
    np.testing.assert_array_equal(vectors, VECTORS)
    expected = np.where(np.isin(IDS, [9, 4]), 0, MASK) if skipped else MASK
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == np.int32 and finite.all()


def test_without_a_skip_list_every_token_counts():
    np.testing.assert_array_equal(compute()[0][1], MASK)


def test_the_first_token_of_a_text_does_not_count_where_it_stands_for_the_whole_text():
    settings = {"multi": "identity normalize", "skips_first": "true"}
    mask = np.array([[1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], np.int32)
    ids = np.full(mask.shape, 2, np.int32)
    inputs = {"token_vectors": np.zeros((4, 6, 2), np.float32), "input_ids": ids, "attention_mask": mask}
    (_, found), _ = modules["multi"].Multi(settings).compute({"input_type": "query"}, inputs.__getitem__)
    assert found.tolist() == [[0, 1, 1, 1, 1, 0], [0, 0, 0, 1, 0, 0], [0] * 6, [0] * 6]
    assert found.dtype == np.int32


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_text_with_a_vector_that_is_not_finite_is_known(value):
    vectors = VECTORS.copy()
    vectors[1, 2, 1] = value
    assert compute(vectors=vectors)[1].tolist() == [True, False]
