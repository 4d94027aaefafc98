"""Networks that compute a batch slice by slice, beside the same networks that compute it at once."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.network import network
from export.network.sliced import slice_rows
from tests.support import architecture_vectors as recorded
from tests.support.batches_of_ids import MIXED, Feed, laid_end_to_end, padded
from tests.support.checkpoints.architectures import (
    CLASSIFIERS,
    MASKED_LMS,
    VARIANTS,
    Drawn,
    read,
    read_classifier,
    read_splade,
    read_token_vectors,
)

TOLERANCE = 1e-5
TOKENS = 16
# Places behind padding, distances, a convolution, blocks of a long row within a slice, windows.
NAMES = ("bert", "roberta", "deberta-v2 conv", "modernbert long", "nomic_bert long", "xlm-roberta-xl")

HEADS = {
    "labels": lambda name: (read(CLASSIFIERS[name]), read_classifier(CLASSIFIERS[name])),
    "sparse": lambda name: (read(MASKED_LMS[name][0]), read_splade(name)),
    "late": lambda name: (read(VARIANTS[name]), read_token_vectors(name)),
}
"""What a network that does not give dense vectors is built of, by what it gives instead."""

BATCHES = {
    "of unlike lengths": MIXED,
    "of one text": [[5, 6, 7, 8]],
    "of one text that is longer than a slice": [MIXED[3]],
    "of more texts than a slice has": [*([[8, 7, 6, 5, 9]] * 11), *MIXED, *([[12, 13, 14]] * 12)],
}


def build(name: str, tokens: int | None, kind: str) -> onnx.ModelProto:
    if kind in HEADS:
        encoder, head = HEADS[kind](name)
        model = network.build(encoder, Drawn(), head=head)
    else:
        model = network.build(read(VARIANTS[name]), Drawn(), (-1, 0), "pooler" in recorded.load(name))
    if tokens:
        slice_rows(model, tokens)
    return model


@cache
def session(name: str, tokens: int | None, kind: str) -> onnxruntime.InferenceSession:
    model = build(name, tokens, kind)
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def both(name: str, feed: Feed, kind: str = "dense", tokens: int = TOKENS) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each output in slices, and at once."""
    whole, sliced = session(name, None, kind), session(name, tokens, kind)
    for tensors in (type(whole).get_inputs, type(whole).get_outputs):
        assert [(t.name, t.type, t.shape) for t in tensors(sliced)] == [
            (t.name, t.type, t.shape) for t in tensors(whole)
        ]
    return list(zip(sliced.run(None, feed), whole.run(None, feed), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_unlike_lengths_come_back_in_their_order(name):
    for found, expected in both(name, laid_end_to_end(recorded.feed(read(VARIANTS[name])))):
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["bert", "bert by sum", "modernbert"])
def test_sparse_rows_of_unlike_widths_are_filled_up(name):
    (indices, weights) = both(name, laid_end_to_end(recorded.feed(read(MASKED_LMS[name][0]))), "sparse")
    np.testing.assert_array_equal(*indices)
    np.testing.assert_allclose(*weights, rtol=1e-5, atol=TOLERANCE)


@pytest.mark.parametrize("rows", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("labels", name) for name in ("bert", "roberta", "deberta-v2", "modernbert by mean", "eurobert")),
        *(("sparse", name) for name in ("bert", "bert by sum", "distilbert", "modernbert")),
        *(("late", name) for name in ("bert", "deberta-v2", "modernbert long", "nomic_bert long")),
    ],
)
def test_scores_sparse_vectors_and_those_of_late_interaction_are_what_they_are_at_once(kind, name, rows):
    encoder, _ = HEADS[kind](name)
    silent = kind == "late" and read_token_vectors(name).silent
    pools = [[1] * len(row[::2]) + [0] * len(row[1::2]) for row in rows] if silent else None
    feed = padded(rows, pools)
    if encoder.type_vocab_size == 1:
        feed["token_type_ids"][:] = 0
    for found, expected in both(name, laid_end_to_end(feed), kind):
        assert found.dtype == expected.dtype and np.isfinite(expected).all() and np.abs(expected).max() > 0.1
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_inputs_of_unlike_widths_rows_of_none_and_wrong_rows_are_what_they_are_at_once():
    feed = laid_end_to_end(padded(MIXED))
    feed["input_ids"][3] = read(VARIANTS["bert"]).vocab_size
    feed["attention_mask"][-feed["input_ids_shape"][0, 0] :] = 0
    for name in ("token_type_ids", "pooling_mask"):  # the first row is one narrower in these
        feed[name], feed[f"{name}_shape"] = feed[name][1:], feed[f"{name}_shape"].copy()
        feed[f"{name}_shape"][0] -= 1
    for found, expected in both("bert", feed):
        assert np.isnan(expected).any() and not np.isnan(expected).all()
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize("tokens", [1, 1_000_000])
def test_a_slice_holds_one_row_at_least_and_all_at_most(tokens):
    for found, expected in both("bert", laid_end_to_end(padded(MIXED)), tokens=tokens):
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_no_run_of_a_layer_has_more_tokens_than_asked_for(tmp_path: Path):
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    running = onnxruntime.InferenceSession(
        build("bert", TOKENS, "dense").SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    running.run(None, laid_end_to_end(padded([*MIXED[:3], *MIXED[4:], *([[5, 6, 7, 8, 9]] * 20)])))
    events = json.loads(Path(running.end_profiling()).read_text())
    products = [event["args"] for event in events if event.get("args", {}).get("op_name") == "Gemm"]
    rows = [next(iter(args["output_type_shape"][0].values()))[0] for args in products if "output_type_shape" in args]
    assert sum(rows) > 3 * TOKENS and max(rows) == 15  # three rows of five tokens
