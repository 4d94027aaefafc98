"""The INT8 networks that TensorRT engines are built of, run by ONNX Runtime."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, numpy_helper
from safetensors.numpy import load_file, save_file
from tokenizers import Encoding, Tokenizer

from export.checkpoint import checkpoint
from export.int8 import accuracy, quantize, smooth
from export.network import network, runner
from export.network.batches import padded
from export.pipeline import save
from tests.support import reference
from tests.support.checkpoints import plain_bert
from tests.support.checkpoints.folders import write_bert
from tests.unit.export.network.test_padded_network import IN_TENSORRT

TEXTS = ["the quick brown fox", "jumped over the lazy dog, hello world", "cafe", "hello hello hello 123 (abc)", "fox"]
LAYERS = 3
NARROW = 5  # an output channel whose weights are tiny
TINY = 1e-3
SPIKE = 5  # a channel in which [PAD] is so large that its state after a layer exceeds all words'
LOUD = 7  # a channel of a norm whose output is made large


@dataclass
class Quantized:
    """A quantised network, taken apart."""

    model: onnx.ModelProto

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.made_by: dict[str, NodeProto] = {output: node for node in graph.node for output in node.output}
        self.arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def products(self) -> list[NodeProto]:
        return [node for node in self.model.graph.node if node.op_type == "MatMul"]

    def maker(self, value: str) -> str:
        """The operator that makes a value, empty for an initializer or an input."""
        return self.made_by[value].op_type if value in self.made_by else ""

    def scale_of_input(self, product: str) -> float:
        (node,) = [node for node in self.products() if node.name.startswith(f"{product}/")][:1]
        return float(self.arrays[self.made_by[node.input[0]].input[1]])

    def smoothing(self, product: str) -> np.ndarray:
        """[in], by what the product's input is multiplied."""
        return self.arrays[self.made_by[f"{product}/MatMul_0.smoothed"].input[1]].astype(np.float32)

    def weight(self, name: str) -> np.ndarray:
        """[in, out], as the network computes with it."""
        return self.arrays[f"{name}_quantized"] * self.arrays[f"{name}_scale"].astype(np.float32)


def build(folder: Path, half: bool = True) -> onnx.ModelProto:
    """The padded network of a checkpoint."""
    source = checkpoint.load(str(folder))
    pooler = source.weights.has("pooler.dense.weight")
    return network.build(source.encoder, source.weights, (-1,), pooler, True, half)


def write(folder: Path, target: Path, encodings: list[Encoding], half: bool = True) -> Quantized:
    """Builds the padded network of a checkpoint and quantises it."""
    quantize.static(build(folder, half), target, checkpoint.load(str(folder)).encoder, encodings)
    onnx.checker.check_model(str(target), full_check=True)
    return Quantized(onnx.load(target))


def encode(folder: Path, texts: list[str] = TEXTS) -> list[Encoding]:
    return Tokenizer.from_str(checkpoint.load(str(folder)).tokenizer_json).encode_batch(texts)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A checkpoint whose [PAD] is unlike any word, and with an output channel of tiny weights."""
    folder = tmp_path / "checkpoint"
    weights = write_bert(folder, layers=LAYERS)
    words, query = "embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"
    weights[words][0] = 0
    weights[words][0, SPIKE] = 100
    weights[query][NARROW] *= TINY / np.abs(weights[query][NARROW]).max()
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("half", [True, False], ids=["fp16", "fp32"])
def test_tensorrt_takes_every_operator_and_every_scale(tmp_path, folder, half):
    found = write(folder, tmp_path / "model.onnx", encode(folder), half)
    (opset,) = found.model.opset_import
    assert opset.domain == "" and opset.version <= 21 and found.model.ir_version <= 10
    nodes = found.model.graph.node
    assert {node.op_type for node in nodes} <= IN_TENSORRT | {"QuantizeLinear", "DequantizeLinear"}
    kind = np.float16 if half else np.float32
    for node in nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = (found.arrays[name] for name in node.input[1:])
            assert scale.dtype == kind and (scale > 0).all() and np.isfinite(scale).all()
            assert zero.dtype == np.int8 and zero.shape == scale.shape and not zero.any()


def test_three_products_of_each_layer_are_int8_and_no_other(tmp_path, folder):
    found = write(folder, tmp_path / "model.onnx", encode(folder))
    names = ("attention.self", "attention.output.dense", "intermediate.dense")
    expected = {f"encoder.layer.{layer}.{name}/MatMul_0" for layer in range(LAYERS) for name in names}
    by_kind: dict[tuple[str, ...], set[str]] = {}
    for node in found.products():
        makers = [found.maker(value) for value in node.input]
        by_kind.setdefault(tuple(maker == "DequantizeLinear" for maker in makers), set()).add(node.name)
    assert by_kind.pop((True, True)) == expected
    (others,) = by_kind.values()
    assert list(by_kind) == [(False, False)] and len(others) == LAYERS * 3 + 3  # scores, context, FFN; pooler, pooled
    for node in found.products():
        if node.name in expected:
            activation, weight = (found.made_by[value] for value in node.input)
            assert found.maker(activation.input[0]) == "QuantizeLinear"
            assert found.arrays[weight.input[0]].dtype == np.int8
            assert [(a.name, a.i) for a in weight.attribute] == [("axis", 1)]
            assert (
                found.arrays[weight.input[1]].shape == found.arrays[weight.input[0]].shape[1:]
            )  # one an output channel
            assert weight.input[0].removesuffix("_quantized") not in found.arrays  # and FP16 no longer
    quantized = [node for node in found.model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantized) == len(expected)  # of their inputs alone
    assert all(
        found.arrays[f"encoder.layer.{layer}.output.dense.weight"].dtype == np.float16 for layer in range(LAYERS)
    )


def test_weights_are_within_half_a_step_of_the_checkpoints(tmp_path, folder):
    weights = load_file(folder / "model.safetensors")
    found = write(folder, tmp_path / "model.onnx", encode(folder))
    name = "encoder.layer.0.attention.self"
    expected = np.concatenate([weights[f"{name}.{part}.weight"] for part in ("query", "key", "value")]).T
    assert np.abs(expected).max(0)[NARROW] == pytest.approx(TINY)
    expected = expected / found.smoothing(name)[:, None]
    gap = np.abs(found.weight(f"{name}.qkv.weight") - expected).max(0)
    largest = np.abs(expected).max(0)
    # Half a step, and what FP16 rounds off weights and scales; a tiny channel's step is that of the least FP16 scale.
    assert (gap <= np.maximum(largest, 2**-6) / 254 * 1.01 + largest * 2**-10).all()
    assert gap[NARROW] < largest[NARROW] / 10  # and not zero, which is what a scale below FP16 comes to


def test_scales_are_those_of_real_tokens_of_all_texts(tmp_path, folder):
    encodings = encode(folder)
    assert len({len(encoding) for encoding in encodings}) > 2
    found = write(folder, tmp_path / "model.onnx", encodings)
    weights = load_file(folder / "model.safetensors")
    states = [plain_bert.layers(weights, encoding.ids, heads=4) for encoding in encodings]
    for layer in range(1, LAYERS):
        name = f"encoder.layer.{layer}.attention.self"
        channels = np.abs(np.concatenate([text[layer - 1] for text in states])).max(0)
        rows = np.abs([weights[f"{name}.{part}.weight"] for part in ("query", "key", "value")]).max((0, 1))
        factors = channels**smooth.STRENGTH / rows ** (1 - smooth.STRENGTH)
        factors /= np.exp(np.log(factors).mean())
        np.testing.assert_allclose(found.smoothing(name), 1 / factors, rtol=1e-2)
        assert found.scale_of_input(name) == pytest.approx((channels / factors).max() / 127, rel=1e-2)


@pytest.mark.parametrize("strength", [0.0, smooth.STRENGTH])
def test_smoothing_changes_nothing_but_how_even_channels_are(tmp_path, monkeypatch, strength):
    monkeypatch.setattr(smooth, "STRENGTH", strength)
    folder = tmp_path / "checkpoint"
    weights = write_bert(folder, layers=LAYERS)
    weights["encoder.layer.0.output.LayerNorm.weight"][LOUD] *= 50
    save_file(weights, folder / "model.safetensors")
    batches = [padded([encoding]) for encoding in encode(folder)]
    plain, smoothed = build(folder, half=False), build(folder, half=False)
    products = [node for node in smoothed.graph.node if "layer.1.attention.self/MatMul_0" in node.name]
    smooth.smooth(smoothed, products, batches)
    onnx.checker.check_model(smoothed, full_check=True)
    sessions = [onnxruntime.InferenceSession(model.SerializeToString()) for model in (plain, smoothed)]
    for batch in batches:
        expected, found = (session.run(None, batch) for session in sessions)
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
    states = [plain_bert.layers(weights, encoding.ids, heads=4)[0] for encoding in encode(folder)]
    factors = Quantized(smoothed).smoothing("encoder.layer.1.attention.self")
    before, after = (np.abs(np.concatenate(states) * by).max(0) for by in (1, factors))
    unevenness = [channels.max() / np.median(channels) for channels in (before, after)]
    assert unevenness[0] > 20 and (unevenness[1] < 5) == (strength > 0)


@pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < quantize.LEAST_VERSION, reason="onnxruntime is too old"
)
def test_the_default_model_stays_near_to_fp32(tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "TEXTS", 100)
    source = checkpoint.load(str(reference.checkpoint()))
    exact = tmp_path / "fp32.onnx"
    save(network.build(source.encoder, source.weights, (-1,), True, True), exact)
    measured = accuracy.Reference(runner.Network(exact), source.tokenizer_json, source.defaults.max_seq_len)
    write(reference.checkpoint(), tmp_path / "model.onnx", measured.others)
    found = measured.accuracy(runner.Network(tmp_path / "model.onnx"))
    assert 0.999 < found.mean_cosine < 0.9999 and found.lowest_cosine > 0.998 and found.recall > 0.9
    assert measured.accuracy(runner.Network(exact)).recall == 1
