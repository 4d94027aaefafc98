"""sentence-transformers' CrossEncoder in process, on its ONNX backend."""

from __future__ import annotations

from perf.compare.systems.sentence_transformers.onnx import SentenceTransformersOnnx
from perf.compare.systems.sentence_transformers.torch import BATCH_SIZE
from perf.rerank.cross_encoder import Client

__all__ = ["Client", "CrossEncoderOnnx"]


class CrossEncoderOnnx(SentenceTransformersOnnx):
    """The library with `backend="onnx"`."""

    title = "CrossEncoder in process, ONNX Runtime"
    settings = (
        "fp32, a graph fused by onnxruntime.transformers (BERT's attention, GELU, norms), a thread a core, "
        f"batch_size {BATCH_SIZE}, sorted by length by the library; rank"
    )
