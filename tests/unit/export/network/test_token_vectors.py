"""Vectors of late interaction of every architecture, in both layouts, beside what torch makes of transformers' states.

Half of each row's tokens attend to the others, and nobody to them, as ColBERT's expansion does.
"""

import numpy as np
import onnx
import onnxruntime
import pytest

from export.network import architectures, network
from export.network.architectures.encoder import Projection, TokenVectors, linear
from export.network.sliced import slice_rows
from tests.support import architecture_vectors as recorded
from tests.support.batches_of_ids import Feed, laid_end_to_end
from tests.support.checkpoints.architectures import TOKEN_VECTORS, VARIANTS, Drawn, drawn, read, read_token_vectors

TOLERANCE = 1e-5
BOTH = pytest.mark.parametrize("is_padded", [False, True], ids=["padding_free", "padded"])
EACH = pytest.mark.parametrize("name", TOKEN_VECTORS)


def run(name: str, is_padded: bool, feed: Feed, half: bool = False) -> np.ndarray:
    """[N, S, D]."""
    model = network.build(read(VARIANTS[name]), Drawn(), is_padded=is_padded, half=half, head=read_token_vectors(name))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["token_vectors"]
    (vectors,) = session.run(None, feed if is_padded else laid_end_to_end(feed))
    return vectors.reshape(*feed["input_ids"].shape, -1)


def compared(vectors: np.ndarray, feed: Feed) -> np.ndarray:
    """Those that are recorded."""
    lengths = feed["attention_mask"].sum(axis=1)
    rows = (row[:length][recorded.compared(length)] for row, length in zip(vectors, lengths, strict=True))
    return np.concatenate([*rows])


@BOTH
@EACH
def test_vectors_equal_those_of_torch(name, is_padded):
    feed = recorded.silent_feed(name)
    vectors = run(name, is_padded, feed)
    np.testing.assert_allclose(compared(vectors, feed), recorded.load_token_vectors(name), rtol=0, atol=TOLERANCE)
    assert not vectors[feed["attention_mask"] == 0].any()


@BOTH
@EACH
def test_vectors_in_half_precision_are_near(name, is_padded):
    feed = recorded.silent_feed(name)
    found = compared(run(name, is_padded, feed, half=True), feed)
    np.testing.assert_allclose(found, recorded.load_token_vectors(name), rtol=0, atol=1e-2)


@BOTH
@pytest.mark.parametrize("name", ["bert", "modernbert", "modernbert long"])
def test_a_wrong_row_has_nan_and_the_others_what_they_have_without_it(name, is_padded):
    feed = recorded.silent_feed(name)
    expected = run(name, is_padded, feed)
    feed["input_ids"][2, 3] = read(VARIANTS[name]).vocab_size
    found = run(name, is_padded, feed)
    assert np.isnan(found[2]).all()
    others = [0, 1, 3]
    np.testing.assert_allclose(found[others], expected[others], rtol=0, atol=TOLERANCE)


@BOTH
def test_rows_without_a_token_have_no_vectors(is_padded):
    feed = recorded.silent_feed("bert")
    feed["attention_mask"][:] = 0
    feed["pooling_mask"][:] = 0
    assert not run("bert", is_padded, feed).any()


@BOTH
@pytest.mark.parametrize("silent", [False, True])
def test_only_what_sees_a_part_of_a_row_has_more_for_tokens_that_nobody_attends_to(is_padded, silent):
    for name in ("bert", "modernbert"):
        head = read_token_vectors(name)
        graphs = [
            network.build(read(VARIANTS[name]), Drawn(), is_padded=is_padded, head=kind).SerializeToString()
            for kind in (head, type(head)(head.projections, silent=silent))
        ]
        assert (graphs[0] == graphs[1]) == (silent or name == "bert")


@BOTH
@pytest.mark.parametrize("in_slices", [False, True])
def test_what_is_made_of_tokens_beside_vectors_is_what_is_made_of_them_alone(is_padded, in_slices):
    """Of the last layer, whichever are concatenated for vectors."""
    feed = recorded.silent_feed("bert")
    feed["input_ids"][2, 3] = read(VARIANTS["bert"]).vocab_size
    weights = TokenVectors((Projection(linear("weights"), 24, 1),), normalize=False)
    heads = {"token_vectors": read_token_vectors("bert"), "token_weights": weights}
    encoder, given = read(VARIANTS["bert"]), feed if is_padded else laid_end_to_end(feed)

    def outputs(model: onnx.ModelProto, names: list[str]) -> list[np.ndarray]:
        if in_slices and not is_padded:
            slice_rows(model, 20)
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(names, given)

    plain = network.build(encoder, Drawn(), (0,), is_padded=is_padded)
    names = [output.name for output in plain.graph.output]
    model = network.build(encoder, Drawn(), (0,), is_padded=is_padded, beside=heads)
    assert [output.name for output in model.graph.output] == [*names, *heads]
    *vectors, one, other = outputs(model, [*names, *heads])
    for found, expected in zip(vectors, outputs(plain, names), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    for found, head in ((one, heads["token_vectors"]), (other, weights)):
        alone = network.build(encoder, Drawn(), is_padded=is_padded, head=head)
        (expected,) = outputs(alone, ["token_vectors"])
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    states = network.build(encoder, Drawn(), is_padded=is_padded)
    (states,) = outputs(states, ["token_embeddings"])
    product = states @ drawn("weights.weight", (1, 24)).T + drawn("weights.bias", (1,))
    attended = feed["attention_mask"] if is_padded else feed["attention_mask"].ravel()
    np.testing.assert_allclose(other[attended == 1], product[attended == 1], rtol=0, atol=TOLERANCE)
    assert not other[(attended == 0) & np.isfinite(other[..., 0])].any() and np.isnan(other).any()


def test_every_architecture_is_tried():
    assert {VARIANTS[name]["model_type"] for name in TOKEN_VECTORS} == {*architectures.READERS}
