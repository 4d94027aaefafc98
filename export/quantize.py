"""INT8 weights and activations for CPUs, and what they cost in accuracy.

ONNX Runtime's dynamic quantisation: the weights of the matrix products become INT8, one scale an output channel; their
inputs become UINT8 in every run, one scale a tensor. Attention, norms and embeddings stay FP32, and so does the second
product of the feed-forward block, whose input has the widest range: on all-MiniLM-L6-v2 leaving it out raises the
lowest cosine to FP32 from 0.978 to 0.990, for 1.6 instead of 2.3 times the speed.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer

from .check import Runner
from .sentences import docstring_sentences

TEXTS = 1000
NEIGHBOURS = 10
_BATCH = 32


@dataclass(frozen=True)
class Accuracy:
    """How near an INT8 network is to its FP32 original, by the mean-pooled vectors of `TEXTS` real sentences.

    Attributes:
        mean_cosine: Mean over the texts of the cosine between both vectors.
        lowest_cosine: The lowest of them.
        recall: Share of the 10 nearest neighbours by FP32 vectors that INT8 vectors find, mean over the texts.
    """

    mean_cosine: float
    lowest_cosine: float
    recall: float

    def __str__(self) -> str:
        return (
            f"cosine to FP32 over {TEXTS:,} texts: mean {self.mean_cosine:.4f}, lowest {self.lowest_cosine:.4f}; "
            f"recall@{NEIGHBOURS} of FP32's nearest neighbours {self.recall:.3f}"
        )


def quantize(source: Path, target: Path, external_data: bool = False) -> None:
    """Writes the INT8 form of the FP32 network `source`.

    Args:
        source: Path of the FP32 network.
        target: Path to write.
        external_data: Whether weights go beside the file, as they must over 2 GB.
    """
    graph = onnx.load(source, load_external_data=False).graph
    # The quantiser turns each Gemm into a MatMul of this name before it looks at the list.
    kept = [f"{node.name}_MatMul" for node in graph.node if node.op_type == "Gemm" and _stays(node.name)]
    with _quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            use_external_data_format=external_data,
            extra_options={"MatMulConstBOnly": True},  # scores and context are products of two activations
        )


def _stays(name: str) -> bool:
    """Whether a product stays FP32: the second of a feed-forward block, and the pooler, which costs nothing."""
    return name.startswith("pooler.") or (".output.dense/" in name and ".attention." not in name)


def accuracy(original: Runner, quantized: Runner, tokenizer_json: str, max_seq_len: int) -> Accuracy:
    """Compares two networks on real sentences."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(max_seq_len)
    texts = random.Random(0).sample(docstring_sentences(), TEXTS)
    expected, found = (_vectors(network, tokenizer, texts) for network in (original, quantized))
    cosines = (expected * found).sum(axis=1)
    same = [len(np.intersect1d(a, b)) / NEIGHBOURS for a, b in zip(_nearest(expected), _nearest(found), strict=True)]
    return Accuracy(float(cosines.mean()), float(cosines.min()), float(np.mean(same)))


def _vectors(network: Runner, tokenizer: Tokenizer, texts: list[str]) -> npt.NDArray[np.float32]:
    """The mean of each text's token vectors, scaled to length 1: [N, D]."""
    encodings = tokenizer.encode_batch(texts)
    order = sorted(range(len(texts)), key=lambda index: -len(encodings[index]))
    means = []
    for start in range(0, len(order), _BATCH):
        means.append(network.run(encodings[index] for index in order[start : start + _BATCH])["pooled"][:, 0])
    vectors = np.concatenate(means)[np.argsort(order)]
    scaled: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def _nearest(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises, on the root logger, a preparation that brings this graph nothing."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
