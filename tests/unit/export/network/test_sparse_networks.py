"""Sparse vectors of every architecture, in both layouts, beside SpladePooling of what transformers' classes compute."""

import numpy as np
import onnx
import onnxruntime
import pytest

from export.network import architectures, network
from export.network.architectures import masked_lms
from tests.support import architecture_vectors as recorded
from tests.support.batches_of_ids import Feed, laid_end_to_end
from tests.support.checkpoints.architectures import MASKED_LMS, Drawn, read, read_splade

TOLERANCE = 2e-5
BOTH = pytest.mark.parametrize("is_padded", [False, True], ids=["padding_free", "padded"])
EACH = pytest.mark.parametrize("name", MASKED_LMS)


def run(name: str, is_padded: bool, feed: Feed, half: bool = False) -> tuple[np.ndarray, np.ndarray]:
    model = network.build(read(MASKED_LMS[name][0]), Drawn(), is_padded=is_padded, half=half, head=read_splade(name))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["indices", "weights"]
    indices, weights = session.run(None, feed if is_padded else laid_end_to_end(feed))
    return indices, weights


def dense(indices: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """[N, size], after a look at what is there: the heaviest first, each word once, and nothing behind them."""
    assert indices.dtype == np.int32 and weights.dtype == np.float32 and indices.shape == weights.shape
    vectors = np.zeros((len(indices), size), np.float32)
    for vector, words, values in zip(vectors, indices, weights, strict=True):
        count = int((words >= 0).sum())
        assert (words[count:] == -1).all() and not values[count:].any() and (values[:count] > 0).all()
        assert (np.diff(values) <= 0).all() and len({*words[:count]}) == count
        vector[words[:count]] = values[:count]
    assert indices.shape[1] == max(1, (vectors > 0).sum(axis=1).max())
    return vectors


@pytest.fixture(params=[64, 1000], ids=["in blocks", "at once"], autouse=True)
def words_at_once(request, monkeypatch):
    monkeypatch.setattr(network, "_VOCABULARY_BLOCK", request.param)


@BOTH
@EACH
def test_vectors_of_rows_of_unlike_lengths_equal_those_of_transformers(name, is_padded):
    expected = recorded.load_sparse(name)
    found = dense(*run(name, is_padded, recorded.feed(read(MASKED_LMS[name][0]))), expected.shape[1])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=TOLERANCE)


@BOTH
@EACH
def test_vectors_in_half_precision_are_near(name, is_padded):
    expected = recorded.load_sparse(name)
    indices, weights = run(name, is_padded, recorded.feed(read(MASKED_LMS[name][0])), half=True)
    found = dense(indices, weights, expected.shape[1])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2 * max(1, expected.max()))


@BOTH
@pytest.mark.parametrize("name", ["bert", "bert by sum"])
def test_a_wrong_row_has_nan_and_the_others_what_they_have_without_it(name, is_padded):
    encoder, expected = read(MASKED_LMS[name][0]), recorded.load_sparse(name)
    feed = recorded.feed(encoder)
    feed["input_ids"][2, 3] = encoder.vocab_size
    indices, weights = run(name, is_padded, feed)
    assert np.isnan(weights[2]).all()
    others = [0, 1, 3]
    found = dense(indices[others], weights[others], encoder.vocab_size)
    np.testing.assert_allclose(found, expected[others], rtol=1e-6, atol=TOLERANCE)


@BOTH
def test_a_token_that_is_not_finite_is_lost_in_no_maximum(is_padded, monkeypatch):
    """By sum it never is."""
    name, take, mixed = "cls.predictions.transform.dense.weight", Drawn.take, False
    for scale in np.geomspace(1e37, 1e41, 25):
        monkeypatch.setattr(
            Drawn,
            "take",
            lambda self, which, shape, scale=scale: (
                np.clip(take(self, which, shape) * scale, -3e38, 3e38).astype(np.float32)
                if which == name
                else take(self, which, shape)
            ),
        )
        feed = recorded.feed(read(MASKED_LMS["bert"][0]))
        by_max, by_sum = (np.isnan(run(kind, is_padded, feed)[1]).any(axis=1) for kind in ("bert", "bert by sum"))
        np.testing.assert_array_equal(by_max, by_sum)
        mixed = mixed or 0 < by_sum.sum() < len(by_sum)
    assert mixed


@BOTH
def test_rows_without_a_token_have_no_words(is_padded):
    feed = recorded.feed(read(MASKED_LMS["bert"][0]))
    feed["attention_mask"][:] = 0
    feed["pooling_mask"][:] = 0
    indices, weights = run("bert", is_padded, feed)
    assert (indices == -1).all() and not weights.any()


def test_every_architecture_has_a_head():
    assert {*masked_lms.READERS} == {*architectures.READERS}
    assert {settings["model_type"] for settings, _ in MASKED_LMS.values()} == {*architectures.READERS}
