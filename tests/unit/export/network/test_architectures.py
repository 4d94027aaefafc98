"""Networks of every architecture, in both layouts, beside the recorded vectors of transformers' own models."""

from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest

from export.network import network
from tests.support import architecture_vectors as recorded
from tests.support.batches_of_ids import Feed, laid_end_to_end
from tests.support.checkpoints.architectures import KINDS, VARIANTS, Drawn, read
from tests.unit.export.network.test_padded_network import IN_TENSORRT, OTHERS

TOLERANCE = 2e-5
LAYERS = (-1, 0)
BOTH = pytest.mark.parametrize("is_padded", [False, True], ids=["padding_free", "padded"])
EACH = pytest.mark.parametrize("name", VARIANTS)
SHORT = pytest.mark.parametrize("name", [name for name in VARIANTS if "long" not in name])
WRONG = 1  # where rows that are out of range are put


@cache
def session(name: str, is_padded: bool, half: bool = False, layers=LAYERS) -> onnxruntime.InferenceSession:
    pooler = "pooler" in recorded.load(name)
    model = network.build(read(VARIANTS[name]), Drawn(), layers, pooler, is_padded, half)
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(name: str, is_padded: bool, feed: Feed, **options) -> dict[str, np.ndarray]:
    """The outputs for padded rows, token_embeddings [N, S, D] in either layout."""
    running = session(name, is_padded, **options)
    given = feed if is_padded else laid_end_to_end(feed)
    found = dict(zip([output.name for output in running.get_outputs()], running.run(None, given), strict=True))
    found["token_embeddings"] = found["token_embeddings"].reshape(*feed["input_ids"].shape, -1)
    return found


def check(name: str, feed: Feed, found: dict[str, np.ndarray], tolerance: float = TOLERANCE) -> None:
    """Compare the outputs for the recorded rows, wherever their tokens stand in padded rows."""
    expected, size = recorded.load(name), read(VARIANTS[name]).hidden_size
    assert set(found) == {"token_embeddings", "pooled"} | ({"pooler_output"} if "pooler" in expected else set())
    tokens = [row[mask == 1] for row, mask in zip(found["token_embeddings"], feed["attention_mask"], strict=True)]
    last = np.concatenate([row[recorded.compared(len(row)), :size] for row in tokens])
    np.testing.assert_allclose(last, expected["tokens"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(found["pooled"][:, 0, size:], expected["mean"], rtol=0, atol=tolerance)
    for row, pooled in zip(tokens, found["pooled"], strict=True):
        reductions = [row.mean(0), row.max(0), row[0], row[-1]]
        np.testing.assert_allclose(pooled, reductions, rtol=0, atol=tolerance)
    if "pooler" in expected:
        np.testing.assert_allclose(found["pooler_output"], expected["pooler"], rtol=0, atol=tolerance)
    assert not found["token_embeddings"][feed["attention_mask"] == 0].any()


@BOTH
@EACH
def test_rows_of_unlike_lengths_equal_transformers_row_by_row(name, is_padded):
    feed = recorded.feed(read(VARIANTS[name]))
    check(name, feed, run(name, is_padded, feed))


@BOTH
@SHORT
def test_padding_on_the_left_keeps_places_that_are_counted_from_the_row(name, is_padded):
    encoder = read(VARIANTS[name])
    feed = recorded.feed(encoder, on_the_left=True)
    found = run(name, is_padded, feed)
    if encoder.positions is None or encoder.positions.padding_id is not None:
        check(name, feed, found)  # only differences of places count, or tokens are counted
    else:
        longest = [row for row, mask in enumerate(feed["attention_mask"]) if mask.all()]
        right = run(name, is_padded, recorded.feed(encoder))
        np.testing.assert_allclose(found["pooled"][longest], right["pooled"][longest], rtol=0, atol=TOLERANCE)
        for array, values in zip(found.values(), run(name, not is_padded, feed).values(), strict=True):
            np.testing.assert_allclose(array, values, rtol=0, atol=TOLERANCE)


@EACH
def test_a_layer_alone_is_what_it_is_below_others(name):
    """Those above, and the norm behind them, are left out."""
    found = run(name, False, recorded.feed(read(VARIANTS[name])), layers=(0,))
    np.testing.assert_allclose(found["pooled"][:, 0], recorded.load(name)["mean"], rtol=0, atol=TOLERANCE)


@SHORT
def test_pooling_masks_are_the_same_in_both_layouts(name):
    encoder = read(VARIANTS[name])
    pools = [[int(place % 3 != 1) for place in range(len(row))] for row in recorded.rows(encoder)]
    pools[0] = [0] * len(pools[0])
    feed = recorded.feed(encoder, pools=pools)
    found, expected = run(name, True, feed), run(name, False, feed)
    for output, array in expected.items():
        np.testing.assert_allclose(found[output], array, rtol=0, atol=TOLERANCE)
    assert not found["pooled"][0, :2].any() and found["pooled"][0, 2:].any()


def with_wrong_row(feed: Feed, **values: list[int]) -> Feed:
    """The rows, and one among them of five tokens but for `values`."""
    inputs = {"input_ids": [5, 6, 7, 8, 9], "attention_mask": [1] * 5, "token_type_ids": [0] * 5} | values
    inputs.setdefault("pooling_mask", inputs["attention_mask"])
    width = feed["input_ids"].shape[1]
    return {
        name: np.insert(array, WRONG, np.pad(inputs[name], (0, width - 5)), axis=0).astype(np.int32)
        for name, array in feed.items()
    }


def check_spoiled(name: str, is_padded: bool, batch: Feed) -> None:
    """The rows that were put in are NaN in every output, and others are as they were recorded."""
    found = run(name, is_padded, batch)
    right = recorded.feed(read(VARIANTS[name]))
    wrong = np.s_[WRONG : WRONG + len(batch["input_ids"]) - len(right["input_ids"])]
    assert all(np.isnan(array[wrong]).all() for array in found.values())
    check(name, right, {output: np.delete(array, wrong, axis=0) for output, array in found.items()})


@BOTH
@SHORT
def test_rows_out_of_range_are_nan_and_leave_others_alone(name, is_padded):
    encoder = read(VARIANTS[name])
    batch = recorded.feed(encoder)
    for values in (
        {"input_ids": [5, 6, encoder.vocab_size, 8, 9]},
        {"token_type_ids": [0, 0, 0, 0, encoder.type_vocab_size or 2]},
        {"attention_mask": [1, 1, 2, 0, 0]},
    ):
        batch = with_wrong_row(batch, **values)
    check_spoiled(name, is_padded, batch)


@BOTH
@SHORT
def test_gaps_between_tokens_spoil_rows_where_distances_count(name, is_padded):
    encoder = read(VARIANTS[name])
    batch = recorded.feed(encoder)
    for mask in ([1, 0, 1, 1, 1], [0, 1, 0, 0, 1]):
        batch = with_wrong_row(batch, attention_mask=mask)
    if encoder.adjacent:
        check_spoiled(name, is_padded, batch)
        return
    found, other = run(name, is_padded, batch), run(name, not is_padded, batch)
    for output, array in found.items():
        assert np.isfinite(array).all()
        np.testing.assert_allclose(array, other[output], rtol=0, atol=TOLERANCE)


@BOTH
@EACH
def test_nothing_but_wrong_and_empty_rows_is_computed_too(name, is_padded):
    feed = {key: array[:2, :5] for key, array in recorded.feed(read(VARIANTS[name])).items()}
    feed = {key: np.array([array[0] * 0, array[1]]) for key, array in feed.items()}
    feed["input_ids"][1, 0] = -1
    found = run(name, is_padded, feed)
    assert all(np.isnan(array[1]).all() for array in found.values())
    assert not found["pooled"][0].any() and not found["token_embeddings"][0].any()


@SHORT
def test_tensorrt_has_every_operator_of_the_padded_network(name):
    model = network.build(read(VARIANTS[name]), Drawn(), is_padded=True, half=True)
    assert {node.op_type for node in model.graph.node} <= IN_TENSORRT | OTHERS
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    sums = [kinds[node.output[0]] for node in model.graph.node if node.op_type == "CumSum"]
    assert set(sums) <= {onnx.TensorProto.FLOAT}
    for node in model.graph.node:  # these must be known when an engine is built
        if node.op_type in ("Slice", "Squeeze", "Unsqueeze", "Conv"):
            index = {"Slice": 3}.get(node.op_type, 1)
            assert node.input[index:] == [] or node.input[index] in {t.name for t in model.graph.initializer}


@BOTH
@pytest.mark.parametrize("name", [*KINDS, "modernbert long"])
def test_fp16_is_near_fp32(name, is_padded):
    feed = recorded.feed(read(VARIANTS[name]))
    found = run(name, is_padded, feed, half=True)
    for output, expected in run(name, is_padded, feed).items():
        assert found[output].dtype == np.float32
        gap = np.abs(found[output] - expected).max()
        assert 0 < gap < 0.01 * max(1, np.abs(expected).max()), output
