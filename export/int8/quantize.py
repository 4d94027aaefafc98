"""Networks with INT8 products, made of FP32 and FP16 ones by ONNX Runtime's quantiser.

Two kinds, for two kinds of machine:

| | `dynamic`, for CPUs | `static`, for TensorRT |
|---|---|---|
| of | the padding-free network, FP32 | the padded network, FP16 |
| weights | INT8, one scale an output channel | the same, before a DequantizeLinear |
| activations | UINT8, one scale a tensor and run | INT8, one calibrated scale a tensor, in a Q/DQ pair |

Attention, norms and embeddings stay as they are, and so does the second product of the feed-forward block, whose input
has the widest range. On all-MiniLM-L6-v2 leaving it out raises the lowest cosine to FP32 from 0.978 to 0.990
(`dynamic`), for 1.6 instead of 2.3 times the speed on a CPU, and from 0.990 to 0.999 (`static`).
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
from export.int8.smooth import smooth
from export.network.architectures.encoder import Encoder
from export.network.batches import Arrays, padded

LEAST_VERSION = (1, 30)
"""Of ONNX Runtime, to measure a `static` network: until then its FP16 QuantizeLinear on CPUs cut off where it must
round (microsoft/onnxruntime pull request 32452)."""

# A channel's or a tensor's largest |value| is at least half of this, so that its scale, 1/127 of it, is a normal FP16
# number: where it is not, the quantiser takes 1, which makes every weight of a channel below 0.008 zero.
_LEAST_RANGE = 2**-6


def dynamic(source: Path, target: Path, encoder: Encoder, external_data: bool = False) -> None:
    """Write the INT8 form, for CPUs, of the padding-free FP32 network `source`.

    Args:
        source: Path of the FP32 network.
        target: Path to write.
        encoder: What the network is of.
        external_data: Whether weights go beside the file, as they must over 2 GB.
    """
    graph = onnx.load(source, load_external_data=False).graph
    wanted = _behind_norms(encoder) | _behind_attention(encoder)
    products = [node.name for node in graph.node if node.op_type == "Gemm" and _scope(node) in wanted]
    with _quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            # The quantiser turns each Gemm into a MatMul of this name before it looks at the list.
            nodes_to_quantize=[f"{name}_MatMul" for name in products],
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
    smooth(model, smoothed, _batches(encodings))
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


def _batches(encodings: Sequence[Encoding]) -> Iterator[Arrays]:
    """Texts in batches of one length, so that no padding is calibrated with."""
    for _, same in groupby(sorted(encodings, key=len), key=len):
        yield padded(list(same))


class _Reader:
    """Texts as ONNX Runtime's CalibrationDataReader has them."""

    def __init__(self, encodings: Sequence[Encoding]) -> None:
        self._batches = _batches(encodings)

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


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises, on the root logger, a preparation that brings these graphs nothing."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
