"""Vectors for late interaction: which are kept of a reply, and what is asked."""

import numpy as np
import pytest

from client_sdk import InvalidType, ServerError
from client_sdk._call.kinds import late_vectors
from client_sdk._call.options import request_parameters


def reply(*masks, width=4):
    """Vectors whose numbers say which text's and which token's they are; of those that do not count, NaN."""
    kept = np.array(masks, np.int32)
    rows, places = np.indices(kept.shape)
    vectors = np.repeat((10 * rows + places)[:, :, np.newaxis], width, axis=2).astype(np.float32)
    vectors[kept == 0] = np.nan
    return {"TOKEN_EMBEDDING": vectors, "ATTENTION_MASK": kept}


def test_the_tokens_that_count_are_kept_holes_and_padding_are_not():
    items = late_vectors(4, None).collector(3)
    items.take([2, 0], reply([1, 0, 1, 1, 0], [1, 1, 0, 0, 0]))
    items.take([1], reply([0]))
    found = items.result()
    assert [array.shape for array in found] == [(2, 4), (0, 4), (3, 4)]
    assert found[0][:, 0].tolist() == [10, 11] and found[2][:, 3].tolist() == [0, 2, 3]
    assert all(array.dtype == np.float32 and array.base is None for array in found)  # the reply can go
    assert items.only() is found[0]


def test_what_is_no_answer_of_a_model_for_late_interaction_is_refused():
    spoiled = reply([1, 1], [1, 1])
    spoiled["TOKEN_EMBEDDING"][1, 0, 0] = np.inf
    other = {"TOKEN_EMBEDDING": np.ones((1, 4), np.float32), "ATTENTION_MASK": np.ones((1, 4), np.int32)}
    for wrong, message in (
        (spoiled, "text 7: the server answered a vector that is not finite"),
        (reply([1, 1], [1, 1], width=3), r"of 4 values a token, and found shape \(2, 2, 3\)"),
        (other, r"expected TOKEN_EMBEDDING"),
        ({}, "expected TOKEN_EMBEDDING"),
    ):
        with pytest.raises(ServerError, match=message):
            late_vectors(4, None).collector(2).take([3, 7][: len(wrong.get("ATTENTION_MASK", "12"))], wrong)


def test_a_pair_is_no_text_of_such_a_model():
    with pytest.raises(InvalidType, match="^text 1 is a pair, and each text is taken for itself here: give a str"):
        late_vectors(4, None).asked("bert", ["a", ("b", "c")], {})


def test_what_a_text_is_is_said_beside_a_prompt_of_the_callers():
    options = {"input_type": "query", "prompt": "find: ", "max_seq_len": 64}
    job = late_vectors(4, "abc").asked("bert", ["a"], options)
    assert job.model == "bert_multi" and job._parameters == request_parameters(**options) == options
