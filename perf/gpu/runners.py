"""What runs a network on this machine: the interpreter, ONNX Runtime on each of its devices, TensorRT."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from perf.gpu.found import PROVIDERS, Found

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], Arrays]

_PADDED = (("padded", "fp32"), ("padded", "fp16"), ("padded", "int8"))
_FREE = (("padding-free", "fp32"), ("padding-free", "fp16"))


@dataclass(frozen=True)
class Runner:
    """Something that runs networks.

    Attributes:
        name: For a table.
        device: Where it computes: "cuda" or "cpu".
        forms: Layouts and precisions that it can run.
        load: Makes a network ready for batches of at most so many rows and tokens; returns what runs one.
    """

    name: str
    device: str
    forms: Sequence[tuple[str, str]]
    load: Callable[[onnx.ModelProto, int, int], Run]


def all_of(found: Found) -> list[Runner]:
    """Those that there are."""
    runners = []
    if "PyTorch" in found.parts:
        forms = [*_FREE, ("padding-free", "int8"), *_PADDED]
        runners.append(Runner(f"the graph on PyTorch, {found.device}", found.device, forms, _interpreter(found.device)))
    for device in found.providers:
        int8 = [("padding-free", "int8")] * (device == "cpu")  # the form for CPUs
        runners.append(Runner(f"ONNX Runtime, {device}", device, [*_FREE, *int8, *_PADDED], _onnx_runtime(device)))
    if "TensorRT" in found.parts and found.device == "cuda":
        runners.append(Runner("TensorRT", "cuda", _PADDED, _tensorrt))
    return runners


def _interpreter(device: str) -> Callable[[onnx.ModelProto, int, int], Run]:
    def load(model: onnx.ModelProto, rows: int, longest: int) -> Run:
        from perf.gpu.interpreter import Interpreter

        return Interpreter(model, device).run

    return load


def _onnx_runtime(device: str) -> Callable[[onnx.ModelProto, int, int], Run]:
    """In FP32 without TF32, which would round to 10 bits."""

    def load(model: onnx.ModelProto, rows: int, longest: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns of every operator that it leaves to the CPU
        provider = (PROVIDERS[device], {"use_tf32": "0"} if device == "cuda" else {})
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[provider])
        names = [output.name for output in session.get_outputs()]
        return lambda feed: dict(zip(names, session.run(None, feed), strict=True))

    return load


@dataclass(frozen=True)
class Row:
    """A text's tokens, as tokenizers.Encoding has them."""

    ids: list[int]
    type_ids: list[int]

    def __len__(self) -> int:
        return len(self.ids)


def _tensorrt(model: onnx.ModelProto, rows: int, longest: int) -> Run:
    """An engine as `export --backend tensorrt` builds it, of one profile."""
    from export.tensorrt.engine import BuildOptions, TensorRT
    from export.tensorrt.profiles import Profile

    tensorrt = TensorRT()
    options = BuildOptions((Profile(1, longest),), rows)
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, Path(folder, "model.onnx"))
        plan = Path(folder, "model.plan")
        tensorrt.build(Path(folder, "model.onnx"), plan, options)
        engine = tensorrt.load(plan, options)

    def run(feed: Arrays) -> Arrays:
        real = feed["attention_mask"] == 1
        texts = [
            Row(ids[kept].tolist(), types[kept].tolist())
            for ids, types, kept in zip(feed["input_ids"], feed["token_type_ids"], real, strict=True)
        ]
        outputs = dict(engine.run(texts))
        if "token_embeddings" in outputs:
            tokens = np.zeros((*real.shape, outputs["token_embeddings"].shape[-1]), np.float32)
            tokens[real] = outputs["token_embeddings"]
            outputs["token_embeddings"] = tokens
        return outputs

    return run
