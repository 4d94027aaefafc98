"""infinity, with its torch and its ONNX engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perf.compare.systems.environment import Environment
from perf.compare.systems.openai_form import Client
from perf.compare.systems.sentence_transformers import onnx
from perf.compare.systems.sentence_transformers.onnx import fused_folder, fused_model
from perf.compare.systems.server import answers, free_port, serving
from perf.compare.systems.system import Model, Peer, Serving

__all__ = ["Client", "InfinityOnnx", "InfinityTorch"]

_OPTIONS = (
    *("--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32", "--log-level", "warning"),
    # Its warm-up takes tens of seconds, and the clients warm it up.
    "--no-model-warmup",
    # It would answer texts that it has seen from the disk.
    "--no-vector-disk-cache",
    # Tokenizing every text twice, only to count.
    "--no-lengths-via-tokenize",
    # Its default; with the ONNX engine 16 and 64 were within a few per cent of it.
    *("--batch-size", "32"),
)


class InfinityTorch(Peer):
    """BetterTransformer, which leaves padding out within a batch, is its default."""

    name = "infinity-torch"
    title = "infinity, torch"
    settings = (
        "fp32, BetterTransformer (its default), batch-size 32, no warm-up of its own, no disk cache, no tokenizing to "
        "count; OpenAI form with base64; bulk: 2 clients with 1,024 texts a request, which it sorts by length itself"
    )
    environments: tuple[Environment, ...] = (
        Environment(
            "infinity-torch",
            (
                "infinity-emb[server,torch,optimum]==0.0.78",
                "torch==2.13.0",
                "transformers==4.48.3",
                "sentence-transformers==3.4.1",
                "optimum==1.27.0",
                "numpy==1.26.4",
                "pyarrow<22",
                "pandas<3",
                "datasets<4",
                "onnx<1.20",
                "tokenizers==0.21.4",
                "fastapi==0.165.0",
                "uvicorn==0.32.1",
            ),
        ),
    )

    @contextmanager
    def serve(self, model: Model) -> Iterator[Serving]:
        """Run its command line."""
        with self._serve(model, "torch", "--no-compile", "--bettertransformer") as up:
            yield up

    @contextmanager
    def _serve(self, model: Model, engine: str, *options: str) -> Iterator[Serving]:
        port = free_port()
        folder = self._folder(model)
        command = [
            *(self.environments[0].folder / "bin" / "infinity_emb", "v2", "--port", str(port), "--engine", engine),
            # Run in the folder of the model: the ONNX engine does not take an absolute path.
            *("--model-id", ".", "--served-model-name", "model", *_OPTIONS, *options),
        ]
        variables = {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "INFINITY_HOME": str(model.folder)}
        with serving(command, lambda log: answers(port, "/health"), folder=folder, variables=variables) as pid:
            yield Serving({"port": port, "path": "/embeddings", "model": "model"}, pid)

    def _folder(self, model: Model) -> Path:
        return model.checkpoint


class InfinityOnnx(InfinityTorch):
    """Its own graph optimisation fails with optimum-onnx 0.1.0, so the graph it is given is fused already."""

    name = "infinity-onnx"
    title = "infinity, ONNX Runtime"
    settings = (
        "fp32, a graph fused by onnxruntime.transformers (attention, GELU, norms), batch-size 32, no warm-up of its "
        "own, no disk cache, no tokenizing to count; OpenAI form with base64; bulk: 2 clients with 1,024 texts a "
        "request, which it sorts by length itself"
    )
    environments = (
        Environment(
            "infinity-onnx",
            (
                "infinity-emb[server]==0.0.78",
                "torch==2.13.0",
                "transformers==4.57.6",
                "tokenizers==0.22.2",
                "optimum==2.1.0",
                "optimum-onnx==0.1.0",
                "onnxruntime==1.31.1",
                "onnx<1.20",
                "numpy==1.26.4",
                "fastapi==0.165.0",
                "uvicorn==0.32.1",
            ),
        ),
        onnx.ENVIRONMENT,  # makes the graph
    )

    def prepare(self, model: Model) -> None:
        """Export and fuse."""
        fused_model(model)

    @contextmanager
    def serve(self, model: Model) -> Iterator[Serving]:
        """Run its command line."""
        with self._serve(
            model, "optimum", "--pooling-method", "mean", "--onnx-disable-optimize", "--onnx-do-not-prefer-quantized"
        ) as up:
            yield up

    def _folder(self, model: Model) -> Path:
        return fused_folder(model)
