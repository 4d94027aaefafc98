"""sentence-transformers in process, on its ONNX backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perf.compare.systems.environment import Environment, run
from perf.compare.systems.sentence_transformers.torch import BATCH_SIZE, Client
from perf.compare.systems.server import environment_variables
from perf.compare.systems.system import InProcess, Model

# The ONNX backend is optimum-onnx, which is not yet made for the transformers that sentence-transformers 6 needs.
ENVIRONMENT = Environment(
    "sentence-transformers-onnx",
    (
        "sentence-transformers==5.7.0",
        "transformers==4.57.6",
        "tokenizers==0.22.2",
        "torch==2.13.0",
        "optimum==2.1.0",
        "optimum-onnx==0.1.0",
        "onnx==1.23.2",
        "onnxruntime==1.31.1",
        "onnxscript==0.7.2",
    ),
)

__all__ = ["ENVIRONMENT", "Client", "SentenceTransformersOnnx", "fused_folder", "fused_model"]


class SentenceTransformersOnnx(InProcess):
    """The library with `backend="onnx"`."""

    name = "sentence-transformers-onnx"
    title = "sentence-transformers in process, ONNX Runtime"
    settings = (
        "fp32, a graph fused by onnxruntime.transformers (BERT's attention, GELU, norms), a thread a core, "
        f"batch_size {BATCH_SIZE}, sorted by length by the library itself; clients are threads that call encode"
    )
    environments = (ENVIRONMENT,)

    def prepare(self, model: Model) -> None:
        """Export and fuse."""
        fused_model(model)

    def config(self, model: Model) -> dict[str, Any]:
        """What SentenceTransformer is made with."""
        return {
            "model_name_or_path": str(fused_model(model)),
            "device": "cpu",
            "backend": "onnx",
            "model_kwargs": {"file_name": "onnx/model.onnx", "provider": "CPUExecutionProvider"},
        }


def fused_model(model: Model) -> Path:
    """A sentence-transformers folder with a fused onnx/model.onnx, made when it is first asked for."""
    folder = model.folder / "onnx"
    if not folder.exists():
        ENVIRONMENT.require()
        folder.parent.mkdir(parents=True, exist_ok=True)
        run(
            [
                ENVIRONMENT.python,
                "-m",
                "perf.compare.systems.sentence_transformers.onnx_model",
                model.checkpoint,
                folder,
            ],
            env=environment_variables(),
        )
    return folder


def fused_folder(model: Model) -> Path:
    """The same with the graph beside the other files, for those who do not find it in a folder below."""
    folder, source = model.folder / "fused", fused_model(model)
    folder.mkdir(exist_ok=True)
    for path in [*source.glob("*.json"), source / "vocab.txt", source / "onnx" / "model.onnx"]:
        link = folder / path.name
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    return folder
