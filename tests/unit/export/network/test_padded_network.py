"""The padded network, for TensorRT, beside the padding-free one and the plain forward pass."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.checkpoint import checkpoint
from export.network import network
from export.network.architectures.config import ACTIVATIONS
from export.network.layout import MORE_REDUCTIONS, REDUCTIONS
from tests.support.batches_of_ids import MIXED, Feed, laid_end_to_end, padded
from tests.support.checkpoints import plain_bert
from tests.support.checkpoints.folders import write_bert

TOLERANCE = 1e-5

# Of the operator support matrix of TensorRT's ONNX parser (onnx-tensorrt, docs/operators.md), those that a network may
# use. CumSum and NonZero, which the padding-free network has, are not: the first takes no integers, and the second
# makes a shape out of data. Some architectures have OTHERS besides, CumSum of FP32 among them.
OTHERS = {
    *("Abs", "Conv", "CumSum", "Expand", "Less", "LessOrEqual", "Not", "Pad", "ReduceMean", "Sqrt", "Sub", "Tile"),
}
IN_TENSORRT = {
    *("Add", "And", "Cast", "Concat", "Div", "Equal", "Gather", "Gelu", "Greater", "Identity", "LayerNormalization"),
    *("MatMul", "Max", "Min", "Mul", "Or", "Range", "ReduceMax", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Shape"),
    *("Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where"),
}


def write(
    folder: Path, layers=(-1,), pooler=True, is_padded=True, half=False, reductions=REDUCTIONS, apart=False
) -> onnx.ModelProto:
    source = checkpoint.load(str(folder))
    model = network.build(source.encoder, source.weights, layers, pooler, is_padded, half, reductions, apart)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, feed: Feed) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, feed), strict=True))


def compare(folder: Path, feed: Feed, layers=(-1,), reductions=REDUCTIONS, apart=False) -> dict[str, np.ndarray]:
    """Asserts that both networks give the same, and returns it."""
    found = run(write(folder, layers, reductions=reductions, apart=apart), feed)
    flat = write(folder, layers, is_padded=False, reductions=reductions, apart=apart)
    expected = run(flat, laid_end_to_end(feed))
    assert list(found) == list(expected) == ["token_embeddings", "pooled", "pooler_output"]
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array.reshape(found[name].shape), atol=TOLERANCE)
    return found


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_rows_equal_each_row_alone(tmp_path, act):
    weights = write_bert(tmp_path, act=act)
    found = run(write(tmp_path), padded(MIXED))
    for index, ids in enumerate(MIXED):
        types = [place % 2 for place in range(len(ids))]
        states = plain_bert.layers(weights, ids, heads=4, types=types, act=act)
        last = states[-1]
        np.testing.assert_allclose(found["token_embeddings"][index, : len(ids)], last, atol=TOLERANCE)
        expected = [last.mean(0), last.max(0), last[0], last[-1]]
        np.testing.assert_allclose(found["pooled"][index], expected, atol=TOLERANCE)
        np.testing.assert_allclose(found["pooler_output"][index], plain_bert.pooler(weights, states), atol=TOLERANCE)


@pytest.mark.parametrize("layers", [(-1,), (-2, 0), (1, 1, 2)])
def test_it_equals_the_padding_free_network(tmp_path, layers):
    write_bert(tmp_path)
    found = compare(tmp_path, padded(MIXED), layers)
    for index, ids in enumerate(MIXED):
        assert not found["token_embeddings"][index, len(ids) :].any()


def test_padding_on_the_left_keeps_positions_and_finds_the_first_token(tmp_path):
    write_bert(tmp_path)
    found = compare(tmp_path, padded(MIXED, on_the_left=True))
    np.testing.assert_array_equal(found["pooled"][1, 2], found["token_embeddings"][1, -3])


def test_pooling_masks_equal_the_padding_free_network(tmp_path):
    write_bert(tmp_path)
    some = [[index % 3 != 1 for index in range(len(ids))] for ids in MIXED]
    some[2] = [False] * len(MIXED[2])  # pools nothing: attends to all of its own, and its mean and max are zero
    found = compare(tmp_path, padded(MIXED, some))
    assert not found["pooled"][2, :2].any() and found["pooled"][2, 2:].any()


ALL = (*REDUCTIONS, *MORE_REDUCTIONS)


def more_reduced(states: np.ndarray, places: np.ndarray, pools: np.ndarray) -> np.ndarray:
    """The reductions beside the usual ones, of a row's tokens: their states, their places, and which are pooled."""
    if not pools.any():
        return np.zeros((2, states.shape[1]))
    root = states[pools].sum(0) / np.sqrt(pools.sum())
    return np.stack([root, np.average(states[pools], axis=0, weights=(places - places[0] + 1)[pools])])


@pytest.mark.parametrize("on_the_left", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_more_reductions_are_over_the_pooled_tokens(tmp_path, on_the_left, masked):
    write_bert(tmp_path)
    some = [[index % 3 != 1 for index in range(len(ids))] for ids in MIXED]
    some[2] = [False] * len(MIXED[2])
    feed = padded(MIXED, some if masked else None, on_the_left=on_the_left)
    feed["attention_mask"][3, 20] = 0  # a hole, which is no token and has a place
    found = compare(tmp_path, feed, (-1, 0), ALL)
    for row, mask in enumerate(feed["attention_mask"] == 1):
        pools = feed["pooling_mask"][row][mask] == 1
        expected = more_reduced(found["token_embeddings"][row, mask].astype(float), np.flatnonzero(mask), pools)
        np.testing.assert_allclose(found["pooled"][row, 4:], expected, atol=TOLERANCE)
    usual = compare(tmp_path, feed, (-1, 0))
    np.testing.assert_allclose(found["pooled"][:, :4], usual["pooled"], atol=1e-6)


@pytest.mark.parametrize("on_the_left", [False, True])
def test_tokens_of_a_prompt_are_attended_to_and_neither_pooled_nor_first(tmp_path, on_the_left):
    write_bert(tmp_path)
    prompts = [3, 0, 2, 1, 1, 2]  # the tokens of each row that are a prompt's: all of some rows
    pools = [[2] * count + [1] * (len(ids) - count) for count, ids in zip(prompts, MIXED, strict=True)]
    pools[5][3] = 0
    feed = padded(MIXED, pools, on_the_left=on_the_left)
    attended = [[int(value > 0) for value in row] for row in pools]
    plain = compare(tmp_path, padded(MIXED, attended, on_the_left=on_the_left), reductions=ALL)
    found = compare(tmp_path, feed, reductions=ALL, apart=True)
    np.testing.assert_allclose(found["token_embeddings"], plain["token_embeddings"], atol=TOLERANCE)
    np.testing.assert_allclose(found["pooler_output"], plain["pooler_output"], atol=TOLERANCE)  # of [CLS] as ever
    for row, mask in enumerate(feed["attention_mask"] == 1):
        states, masked = found["token_embeddings"][row, mask].astype(float), np.array(pools[row])
        pooled, first = masked == 1, states[prompts[row] if prompts[row] < len(states) else 0]
        mean, highest = (states[pooled].mean(0), states[pooled].max(0)) if pooled.any() else (0 * first, 0 * first)
        expected = [mean, highest, first, states[-1], *more_reduced(states, np.arange(len(states)), pooled)]
        np.testing.assert_allclose(found["pooled"][row], expected, atol=TOLERANCE)


def test_a_network_that_tells_prompts_apart_is_the_usual_one_where_there_is_none(tmp_path):
    write_bert(tmp_path)
    feed = padded(MIXED, [[index % 3 != 1 for index in range(len(ids))] for ids in MIXED])
    feed["attention_mask"][3] = 0
    feed["pooling_mask"][4] = 3  # out of range
    usual, found = (compare(tmp_path, feed, reductions=ALL, apart=apart) for apart in (False, True))
    for name, array in usual.items():
        assert np.isnan(array[4]).all()
        np.testing.assert_allclose(found[name], array, atol=1e-6)


@pytest.mark.parametrize("reductions", [(*REDUCTIONS, "weightedmean"), (*REDUCTIONS, *reversed(MORE_REDUCTIONS))])
def test_reductions_stand_in_the_order_given(tmp_path, reductions):
    write_bert(tmp_path)
    found, all_of_them = (compare(tmp_path, padded(MIXED), reductions=names)["pooled"] for names in (reductions, ALL))
    places = [ALL.index(name) for name in reductions]
    np.testing.assert_allclose(found, all_of_them[:, places], atol=1e-6)


def test_a_row_without_tokens_is_zero_and_changes_no_other(tmp_path):
    write_bert(tmp_path)
    feed = padded(MIXED)
    expected = run(write(tmp_path), feed)
    feed["attention_mask"][3] = 0
    found = compare(tmp_path, feed)
    assert not found["token_embeddings"][3].any() and not found["pooled"][3].any()
    assert not compare(tmp_path, feed, reductions=ALL)["pooled"][3].any()
    others = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(found["pooled"][others], expected["pooled"][others], atol=TOLERANCE)


def test_more_padding_changes_nothing(tmp_path):
    write_bert(tmp_path)
    feed = padded(MIXED)
    wider = {name: np.pad(array, ((0, 0), (0, 24))) for name, array in feed.items()}
    found, expected = run(write(tmp_path), wider), run(write(tmp_path), feed)
    np.testing.assert_allclose(found["pooled"], expected["pooled"], atol=TOLERANCE)
    assert found["token_embeddings"].shape == (6, 64, 32)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("act", ["gelu", "gelu_new", "silu", "relu", "tanh"])
def test_tensorrt_has_every_operator_of_it(tmp_path, act, half):
    write_bert(tmp_path, act=act)
    model = write(tmp_path, (-1, -2), half=half, reductions=ALL, apart=True)
    assert {node.op_type for node in model.graph.node} <= IN_TENSORRT
    assert {node.domain for node in model.graph.node} == {""}
    assert model.ir_version <= 10 and model.opset_import[0].version <= 21


def test_shapes_depend_on_n_and_s_alone(tmp_path):
    write_bert(tmp_path)
    inferred = onnx.shape_inference.infer_shapes(write(tmp_path), strict_mode=True, data_prop=True)
    dims = {
        tensor.name: [dim.dim_param or dim.dim_value for dim in tensor.type.tensor_type.shape.dim]
        for tensor in (*inferred.graph.input, *inferred.graph.output)
    }
    assert dims == {
        **dict.fromkeys(("input_ids", "attention_mask", "token_type_ids", "pooling_mask"), ["N", "S"]),
        "token_embeddings": ["N", "S", 32],
        "pooled": ["N", 4, 32],
        "pooler_output": ["N", 32],
    }


@pytest.mark.parametrize("is_padded", [True, False])
def test_fp16_is_near_fp32(tmp_path, is_padded):
    write_bert(tmp_path)
    feed = padded(MIXED) if is_padded else laid_end_to_end(padded(MIXED))
    found = run(write(tmp_path, is_padded=is_padded, half=True), feed)
    for name, expected in run(write(tmp_path, is_padded=is_padded), feed).items():
        assert found[name].dtype == np.float32
        gap = np.abs(found[name] - expected).max()
        assert 0 < gap < 0.01 * max(1, np.abs(expected).max()), name


@pytest.mark.parametrize("is_padded", [True, False])
def test_fp16_keeps_norms_softmax_and_pooling_in_fp32(tmp_path, is_padded):
    write_bert(tmp_path)
    model = write(tmp_path, is_padded=is_padded, half=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    kinds |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    of = {node.name: kinds.get(node.output[0]) for node in model.graph.node}
    products = [of[node.name] for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for kind in ("LayerNormalization", "Softmax", "ReduceMax", "ReduceSum"):
        assert single in {of[node.name] for node in model.graph.node if node.op_type == kind}, kind
        assert half not in {of[node.name] for node in model.graph.node if node.op_type == kind}, kind
    # Four linear layers and two products of attention in each of three layers, and the pooler's; all the rest, on
    # padded rows, picks rows out: in FP32 for `pooled`.
    assert products.count(half) == 6 * 3 + 1 + is_padded and products.count(single) == is_padded
    matrices = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 2 and "weight" in tensor.name]
    assert {tensor.data_type for tensor in matrices} == {half}
