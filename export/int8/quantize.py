"""Networks with INT8 products, made of FP32 and FP16 ones by ONNX Runtime's quantiser.

Two kinds, for two kinds of machine:

| | `dynamic`, for CPUs | `static`, for TensorRT |
|---|---|---|
| of | the padding-free network, FP32 | the padded network, FP16 |
| weights | INT8 of seven bits, one scale an output channel | INT8, the same, before a DequantizeLinear |
| activations | UINT8, one scale a tensor and run | INT8, one calibrated scale a tensor, in a Q/DQ pair |
| behind norms | range is moved into the weights (`smooth`) | the same |
| behind attention | rows are brought to one range (`scale_by_row`) | as they are |
| out of the feed-forward block | rows are brought to one range | not INT8, but FP16 |
| GELU | by tanh, 5e-4 off at most | as it is |

Attention, norms and embeddings stay as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from tokenizers import Encoding

from export.errors import ExportError
from export.int8.products import scale_by_row, split_from_bias
from export.int8.smooth import smooth
from export.network.architectures.encoder import Encoder
from export.network.batches import Arrays, laid_end_to_end, padded

LEAST_VERSION = (1, 30)
"""Of ONNX Runtime, to measure a `static` network: until then its FP16 QuantizeLinear on CPUs cut off where it must
round (microsoft/onnxruntime pull request 32452)."""

# A channel's or a tensor's largest |value| is at least half of this, so that its scale, 1/127 of it, is a normal FP16
# number: where it is not, the quantiser takes 1, which makes every weight of a channel below 0.008 zero.
_LEAST_RANGE = 2**-6

_BATCH = 32


def dynamic(
    source: Path, target: Path, encoder: Encoder, encodings: Sequence[Encoding], external_data: bool = False
) -> None:
    """Write the INT8 form, for CPUs, of the padding-free FP32 network `source`.

    Args:
        source: Path of the FP32 network.
        target: Path to write.
        encoder: What the network is of.
        encodings: Texts to measure its activations with.
        external_data: Whether weights go beside the file, as they must over 2 GB.
    """
    model = onnx.load(source)
    _gelu_by_tanh(model.graph)
    scopes = _behind_norms(encoder) | _behind_attention(encoder) | _out_of_feed_forward(encoder)
    products = {node.name: _scope(node) for node in model.graph.node if node.op_type == "Gemm"}
    products = {name: scope for name, scope in products.items() if scope in scopes}
    split_from_bias(model.graph, products)
    behind_norms = {name for name, scope in products.items() if scope in _behind_norms(encoder)}
    smoothed = [node for node in model.graph.node if node.name in behind_norms]
    smooth(model, smoothed, map(laid_end_to_end, _parts(encodings)))
    scale_by_row(model.graph, products.keys() - behind_norms)
    with _quiet():
        quantize_dynamic(
            model,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            # Of seven bits: CPUs without VNNI add two products of eight in sixteen, and cut the sum off.
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=list(products),
            use_external_data_format=external_data,
            extra_options={"MatMulConstBOnly": True},  # scores and context are products of two activations
        )


def check_version() -> None:
    """Refuses an ONNX Runtime that would compute a `static` network wrongly.

    Raises:
        ExportError: it is too old.
    """
    version = onnxruntime.__version__
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_VERSION:
        wanted = ".".join(map(str, LEAST_VERSION))
        raise ExportError(
            f"--precision int8 with TensorRT needs onnxruntime {wanted} or later, which has Python 3.11 or later, and "
            f"this is {version}: pip install 'onnxruntime>={wanted}', or give --precision fp16"
        )


def static(model: onnx.ModelProto, target: Path, encoder: Encoder, encodings: Sequence[Encoding]) -> None:
    """Write the INT8 form, for TensorRT, of a padded network.

    All is symmetric (zero points are 0), which is what TensorRT takes. A tensor's range is from the least to the
    largest value that it has in the texts: on all-MiniLM-L6-v2 percentiles and entropy are no better.

    Args:
        model: The network, FP16 or FP32, which is changed; what is not INT8 keeps its type.
        target: Path to write.
        encoder: What the network is of.
        encodings: Texts to calibrate with.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    smoothed = [node for node in products if _scope(node) in _behind_norms(encoder)]
    others = [node for node in products if _scope(node) in _behind_attention(encoder)]
    smooth(model, smoothed, map(padded, _of_one_length(encodings)))
    with _quiet():
        quantize_static(
            model,
            target,
            _Reader(encodings),
            QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[node.name for node in smoothed + others],
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "MinimumRealRange": _LEAST_RANGE,
                "OpTypesToExcludeOutputQuantization": ["MatMul"],  # what follows is not INT8
            },
        )


def _of_one_length(encodings: Sequence[Encoding]) -> Iterator[list[Encoding]]:
    """Texts in batches of one length, so that no padding is calibrated with."""
    for _, same in groupby(sorted(encodings, key=len), key=len):
        yield list(same)


def _parts(encodings: Sequence[Encoding]) -> Iterator[Sequence[Encoding]]:
    """Texts in batches of like lengths."""
    ordered = sorted(encodings, key=len)
    return (ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH))


class _Reader:
    """Texts as ONNX Runtime's CalibrationDataReader has them."""

    def __init__(self, encodings: Sequence[Encoding]) -> None:
        self._batches = map(padded, _of_one_length(encodings))

    def get_next(self) -> Arrays | None:
        """The next batch, None after the last."""
        return next(self._batches, None)


def _scope(node: onnx.NodeProto) -> str:
    """What a product is of, as `Graph.scope` had it."""
    return str(node.name.rpartition("/")[0])


def _behind_norms(encoder: Encoder) -> set[str]:
    """The products of a layer whose input is a norm's output: to queries, keys and values, and into feed-forward."""
    inner = {linear.name for layer in encoder.layers for linear in (layer.up, layer.gate) if linear}
    return inner | {layer.query.name.rpartition(".")[0] for layer in encoder.layers}


def _behind_attention(encoder: Encoder) -> set[str]:
    """The product of what was attended to, whose channels are of like range as they are."""
    return {layer.attention_output.name for layer in encoder.layers}


def _out_of_feed_forward(encoder: Encoder) -> set[str]:
    """The second product of the feed-forward block, whose input has the widest range."""
    return {layer.down.name for layer in encoder.layers}


def _gelu_by_tanh(graph: onnx.GraphProto) -> None:
    """Half the time of ONNX Runtime's erf on CPUs, and less off (Hendrycks and Gimpel, 2016) than INT8 products are."""
    for node in graph.node:
        if node.op_type == "Gelu":
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("approximate", "tanh"))


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises, on the root logger, a preparation that brings these graphs nothing."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
