"""The interpreter of our graphs on PyTorch beside ONNX Runtime: of every architecture, both layouts, every head."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.int8 import quantize
from export.network import network
from export.network.layout import MORE_REDUCTIONS, REDUCTIONS
from export.pipeline import save
from perf.gpu.interpreter import Interpreter
from tests.support import architecture_vectors as recorded
from tests.support.batches_of_ids import Feed, laid_end_to_end
from tests.support.checkpoints.architectures import (
    CLASSIFIERS,
    KINDS,
    MASKED_LMS,
    TOKEN_VECTORS,
    VARIANTS,
    Drawn,
    read,
    read_classifier,
    read_splade,
    read_token_vectors,
)

FP32, FP16 = 1e-5, 1e-2  # of an output's largest value where that is above 1


FORMS = [
    *((name, False, False) for name in VARIANTS),
    *((name, True, False) for name in KINDS),
    *((name, False, True) for name in KINDS),
]
EACH_FORM = pytest.mark.parametrize(("name", "is_padded", "half"), FORMS)


def check(model: onnx.ModelProto, feed: Feed, tolerance: float = FP32, literal: bool = False) -> None:
    """Every output is what ONNX Runtime computes, in type, in shape, and where it is not a number."""
    options = onnxruntime.SessionOptions()
    if literal:  # what the nodes say, and nothing that is put together of them
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = Interpreter(model).run(feed)
    assert [*found] == [output.name for output in session.get_outputs()]
    for (name, array), expected in zip(found.items(), session.run(None, feed), strict=True):
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape), name
        largest = np.nanmax(np.abs(expected))
        np.testing.assert_allclose(array, expected, rtol=0, atol=tolerance * max(1, largest), err_msg=name)


@EACH_FORM
def test_networks_of_every_architecture_are_those_of_onnx_runtime(name, is_padded, half):
    encoder = read(VARIANTS[name])
    reductions = (*REDUCTIONS, *MORE_REDUCTIONS)
    pooler = encoder.pooler is not None
    model = network.build(encoder, Drawn(), (-1, 0), pooler, is_padded, half, reductions, prompts_apart=True)
    feed = recorded.feed(encoder)
    feed["input_ids"][2, 3] = encoder.vocab_size  # a row that is out of range
    check(model, feed if is_padded else laid_end_to_end(feed), FP16 if half else FP32)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_are_those_of_onnx_runtime(name):
    settings = CLASSIFIERS[name]
    model = network.build(read(settings), Drawn(), head=read_classifier(settings))
    check(model, laid_end_to_end(recorded.feed(read(settings))))


@pytest.mark.parametrize("name", MASKED_LMS)
def test_sparse_networks_are_those_of_onnx_runtime(name):
    settings, _ = MASKED_LMS[name]
    model = network.build(read(settings), Drawn(), head=read_splade(name))
    check(model, laid_end_to_end(recorded.feed(read(settings))))


@pytest.mark.parametrize("name", TOKEN_VECTORS)
def test_vectors_of_tokens_are_those_of_onnx_runtime(name):
    model = network.build(read(VARIANTS[name]), Drawn(), head=read_token_vectors(name))
    check(model, laid_end_to_end(recorded.silent_feed(name)))


@pytest.mark.parametrize("name", ["bert", "modernbert", "deberta-v2 conv"])
def test_int8_networks_for_gpus_are_those_of_onnx_runtime(tmp_path, name):
    """A last bit of what is quantised moves it by a whole step of 255: not as near as FP32."""
    encoder = read(VARIANTS[name])
    texts = [recorded.Ids(ids) for ids in recorded.rows(encoder)]
    quantize.static(network.build(encoder, Drawn(), is_padded=True), tmp_path / "model.onnx", encoder, texts)
    check(onnx.load(tmp_path / "model.onnx"), recorded.feed(encoder), FP16, literal=True)


def test_int8_networks_for_cpus_are_those_of_onnx_runtime_and_near_to_fp32(tmp_path):
    encoder = read(VARIANTS["bert"])
    original = network.build(encoder, Drawn())
    save(original, tmp_path / "fp32.onnx")
    texts = [recorded.Ids(ids) for ids in recorded.rows(encoder)]
    quantize.dynamic(tmp_path / "fp32.onnx", tmp_path / "model.onnx", encoder, texts)
    model, feed = onnx.load(tmp_path / "model.onnx"), laid_end_to_end(recorded.feed(encoder))
    check(model, feed, FP16)
    found = Interpreter(model).run(feed)["pooled"]
    expected = Interpreter(original).run(feed)["pooled"]
    gap = np.abs(found - expected).max()
    assert 0 < gap < 0.1 * np.abs(expected).max()


def test_an_operator_that_is_not_known_is_named_before_anything_runs():
    nodes = [helper.make_node("Einsum", ["x"], ["y"], equation="ii"), helper.make_node("Det", ["x"], ["z"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xyz"]
    model = helper.make_model(helper.make_graph(nodes, "graph", values[:1], values[1:]))
    with pytest.raises(NotImplementedError, match="not interpreted: Det, Einsum"):
        Interpreter(model)
