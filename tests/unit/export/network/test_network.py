from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.checkpoint import checkpoint
from export.errors import ExportError
from export.network import network
from export.network.architectures.config import ACTIVATIONS
from export.network.layout import INPUTS, shape_of
from export.pipeline import save
from tests.support.checkpoints import plain_bert
from tests.support.checkpoints.folders import write_bert

TOLERANCE = 1e-5


def build(folder: Path, layers=(-1,), pooler=False) -> onnxruntime.InferenceSession:
    source = checkpoint.load(str(folder))
    model = network.build(source.encoder, source.weights, layers, pooler)
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def feed(*batches: list[list[int]], pools=None) -> dict[str, np.ndarray]:
    """Batches of ids, each padded to its own longest and all laid end to end, as Triton's ragged batching does."""
    ids, mask, widths = [], [], []
    for batch in batches:
        width = max(map(len, batch))
        for row in batch:
            ids += row + [0] * (width - len(row))
            mask += [1] * len(row) + [0] * (width - len(row))
            widths.append([width])
    types = np.arange(len(ids)) % 2 * np.array(mask)
    return {
        "input_ids": np.array(ids, np.int32),
        "attention_mask": np.array(mask, np.int32),
        "token_type_ids": types.astype(np.int32),
        "pooling_mask": np.array(mask if pools is None else pools, np.int32),
    } | dict.fromkeys(map(shape_of, INPUTS), np.array(widths, np.int32))


def rows(inputs: dict[str, np.ndarray]) -> list[tuple[slice, list[int], list[int]]]:
    """Where each row's real tokens stand in K, its ids and its types."""
    found, start = [], 0
    for width in inputs["input_ids_shape"][:, 0]:
        length = int(inputs["attention_mask"][start : start + width].sum())
        place = slice(start, start + length)
        found.append((place, inputs["input_ids"][place].tolist(), inputs["token_type_ids"][place].tolist()))
        start += width
    return found


MIXED = ([[5, 6, 7, 8, 9, 10, 11], [5, 6, 7]], [[12, 13]], [list(range(5, 45)), [9], [8, 7, 6, 5]])


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_rows_of_unlike_lengths_equal_each_row_alone(tmp_path, act):
    weights = write_bert(tmp_path, act=act)
    session = build(tmp_path, pooler=True)
    inputs = feed(*MIXED)
    tokens, pooled, pooler_output = session.run(None, inputs)
    for row, (place, ids, types) in enumerate(rows(inputs)):
        states = plain_bert.layers(weights, ids, heads=4, types=types, act=act)
        last = states[-1]
        np.testing.assert_allclose(tokens[place], last, atol=TOLERANCE)
        expected = [last.mean(0), last.max(0), last[0], last[-1]]
        np.testing.assert_allclose(pooled[row], expected, atol=TOLERANCE)
        np.testing.assert_allclose(pooler_output[row], plain_bert.pooler(weights, states), atol=TOLERANCE)


def test_token_embeddings_are_zero_at_padding(tmp_path):
    write_bert(tmp_path)
    inputs = feed(*MIXED)
    (tokens,) = build(tmp_path).run(["token_embeddings"], inputs)
    padding = inputs["attention_mask"] == 0
    assert padding.any() and not tokens[padding].any() and tokens[~padding].any(axis=1).all()


@pytest.mark.parametrize(
    "size",
    [{"hidden": 24, "heads": 2}, {"hidden": 48, "heads": 12, "layers": 1}, {"intermediate": 7, "types": 2}],
)
def test_other_sizes(tmp_path, size):
    weights = write_bert(tmp_path, **size)
    inputs = feed(*MIXED)
    _, pooled = build(tmp_path).run(None, inputs)
    for row, (_, ids, types) in enumerate(rows(inputs)):
        last = plain_bert.layers(weights, ids, heads=size.get("heads", 4), types=types)[-1]
        np.testing.assert_allclose(pooled[row, 0], last.mean(0), atol=TOLERANCE)


@pytest.mark.parametrize("layers", [(-2,), (0,), (-1, -3), (0, 2, 1), (1, 1)])
def test_layers_are_concatenated_in_the_order_given(tmp_path, layers):
    weights = write_bert(tmp_path)
    inputs = feed(*MIXED)
    tokens, pooled = build(tmp_path, layers).run(None, inputs)
    for row, (place, ids, types) in enumerate(rows(inputs)):
        states = plain_bert.layers(weights, ids, heads=4, types=types)
        expected = np.concatenate([states[index] for index in layers], axis=-1)
        np.testing.assert_allclose(tokens[place], expected, atol=TOLERANCE)
        np.testing.assert_allclose(pooled[row, 1], expected.max(0), atol=TOLERANCE)


def test_layers_above_the_highest_are_left_out_unless_the_pooler_needs_them(tmp_path):
    write_bert(tmp_path)
    source = checkpoint.load(str(tmp_path))

    def stored(layers, pooler=False):
        return {t.name for t in network.build(source.encoder, source.weights, layers, pooler).graph.initializer}

    assert "encoder.layer.1.output.dense.weight" in stored((-2, 0))
    assert "encoder.layer.2.output.dense.weight" not in stored((-2, 0))
    assert "pooler.dense.weight" not in stored((-1,))
    assert {"encoder.layer.2.output.dense.weight", "pooler.dense.weight"} <= stored((-2,), pooler=True)


def test_pooler_reads_the_last_layer_whatever_layer_is_asked_for(tmp_path):
    weights = write_bert(tmp_path)
    inputs = feed(*MIXED)
    (pooler_output,) = build(tmp_path, (0,), pooler=True).run(["pooler_output"], inputs)
    for row, (_, ids, types) in enumerate(rows(inputs)):
        states = plain_bert.layers(weights, ids, heads=4, types=types)
        np.testing.assert_allclose(pooler_output[row], plain_bert.pooler(weights, states), atol=TOLERANCE)


def test_pooling_mask_takes_tokens_out_of_attention_and_pooling_but_not_their_own_states(tmp_path):
    weights = write_bert(tmp_path)
    pools = [0, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0]
    inputs = feed([[5, 6, 7, 8, 9, 10, 11], [5, 6, 7]], pools=pools)
    tokens, pooled = build(tmp_path).run(None, inputs)
    for row, (place, ids, types) in enumerate(rows(inputs)):
        counted = np.array(pools[place]) == 1
        last = plain_bert.layers(weights, ids, heads=4, types=types, attended=pools[place])[-1]
        np.testing.assert_allclose(tokens[place], last, atol=TOLERANCE)
        expected = [last[counted].mean(0), last[counted].max(0), last[0], last[-1]]
        np.testing.assert_allclose(pooled[row], expected, atol=TOLERANCE)


def test_mean_and_max_over_nothing_are_zero_and_the_row_attends_to_itself(tmp_path):
    weights = write_bert(tmp_path)
    inputs = feed([[5, 6, 7]], [[8, 9, 10, 11]], pools=[0, 0, 0, 1, 1, 1, 1])
    tokens, pooled = build(tmp_path).run(None, inputs)
    assert not pooled[0, :2].any()
    last = plain_bert.layers(weights, [5, 6, 7], heads=4, types=[0, 1, 0])[-1]
    np.testing.assert_allclose(tokens[:3], last, atol=TOLERANCE)


def test_a_row_without_tokens_is_zero_and_changes_no_other(tmp_path):
    write_bert(tmp_path)
    session = build(tmp_path, pooler=True)
    inputs = feed([[5, 6, 7]], [[8, 9, 10]], [[11, 12]])
    expected = session.run(None, inputs)
    emptied = {**inputs, "attention_mask": inputs["attention_mask"].copy()}
    emptied["attention_mask"][3:6] = 0
    tokens, pooled, pooler_output = session.run(None, emptied)
    assert not tokens[3:6].any() and not pooled[1].any()
    np.testing.assert_array_equal(pooled[[0, 2]], expected[1][[0, 2]])
    np.testing.assert_array_equal(pooler_output[[0, 2]], expected[2][[0, 2]])
    for output in session.run(None, {**inputs, "attention_mask": np.zeros_like(inputs["attention_mask"])})[:2]:
        assert not output.any()


def test_padding_on_the_left_keeps_positions(tmp_path):
    weights = write_bert(tmp_path)
    shifted = dict(weights)
    name = "embeddings.position_embeddings.weight"
    shifted[name] = np.roll(weights[name], -2, axis=0)  # positions 2, 3, 4 ...
    inputs = feed([[5, 6, 7, 8, 9]])
    inputs["attention_mask"][:2] = inputs["pooling_mask"][:2] = 0
    tokens, _ = build(tmp_path).run(None, inputs)
    last = plain_bert.layers(shifted, [7, 8, 9], heads=4, types=inputs["token_type_ids"][2:].tolist())[-1]
    np.testing.assert_allclose(tokens[2:], last, atol=TOLERANCE)


def test_ir_and_opset_are_within_what_served_runtimes_read(tmp_path):
    write_bert(tmp_path)
    source = checkpoint.load(str(tmp_path))
    model = network.build(source.encoder, source.weights)
    assert model.ir_version <= 10
    assert [(opset.domain, opset.version <= 21) for opset in model.opset_import] == [("", True)]
    assert {node.domain for node in model.graph.node} == {""}


def test_large_weights_go_beside_the_network(tmp_path):
    weights = write_bert(tmp_path / "bert")
    source = checkpoint.load(str(tmp_path / "bert"))
    path = tmp_path / "model.onnx"
    save(network.build(source.encoder, source.weights), path, external_from=1)
    assert path.stat().st_size < (tmp_path / "model.onnx.data").stat().st_size
    inputs = feed([[5, 6, 7]])
    tokens, _ = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)
    np.testing.assert_allclose(tokens, plain_bert.layers(weights, [5, 6, 7], heads=4, types=[0, 1, 0])[-1], atol=1e-5)


@pytest.mark.parametrize(("layers", "named"), [((3,), "layer 3"), ((-4,), "layer -4"), ((), "no layer")])
def test_layers_that_do_not_exist_are_named(tmp_path, layers, named):
    write_bert(tmp_path)
    with pytest.raises(ExportError, match=named):
        build(tmp_path, layers)


def test_a_weight_of_another_shape_is_named(tmp_path):
    write_bert(tmp_path, config={"intermediate_size": 65})
    with pytest.raises(ExportError, match=r"encoder\.layer\.0\.intermediate\.dense\.weight.*\[64, 32\].*\[65, 32\]"):
        build(tmp_path)


def test_a_missing_weight_is_named(tmp_path):
    write_bert(tmp_path, layers=2, config={"num_hidden_layers": 3})
    with pytest.raises(ExportError, match=r"encoder\.layer\.2\.attention\.self\.query\.weight.*missing"):
        build(tmp_path)
