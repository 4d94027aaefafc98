"""What there is on a machine to run networks with, and why not what there is not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from textwrap import shorten

from client_sdk import ClientError
from client_sdk._server.tritonserver import find_tritonserver
from perf.failure import Failure
from perf.machine import cpu_model

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_MIB = 2**20


@dataclass(frozen=True)
class Found:
    """What there is.

    Attributes:
        device: "cuda" or "cpu": where PyTorch and the interpreter compute.
        name: Of the GPU, or of the processor.
        parts: What was looked for: a version, with what there is to it.
        absent: What was looked for and cannot be used: why.
        providers: Of ONNX Runtime, those of `PROVIDERS` that are there, by device.
    """

    device: str
    name: str
    parts: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    providers: Sequence[str] = ()

    @property
    def slug(self) -> str:
        """Of the device, for the name of a file: `cpu`, `nvidia-h100-80gb-hbm3`."""
        return "cpu" if self.device == "cpu" else "-".join(self.name.lower().split())


def look(device: str | None = None) -> Found:
    """Look for everything, and compute on `device`, or on a GPU where there is one.

    Raises:
        Failure: "cuda" is asked for and nothing here computes on a GPU.
    """
    parts: dict[str, str] = {}
    absent: dict[str, str] = {}
    on_gpu = []
    try:
        parts["PyTorch"], usable = _torch()
        on_gpu += ["PyTorch"] * usable
        if not usable:
            absent["PyTorch on a GPU"] = "torch.cuda.is_available() is false"
    except ImportError as error:
        absent["PyTorch"] = str(error)
    providers: list[str] = []
    try:
        version, available = _onnx_runtime()
        providers = [name for name, provider in PROVIDERS.items() if provider in available]
        parts["ONNX Runtime"] = f"{version} ({', '.join(available)})"
        on_gpu += ["ONNX Runtime"] * ("cuda" in providers)
    except ImportError as error:
        absent["ONNX Runtime"] = str(error)
    for name, package in (("transformers", "transformers"), ("polygraphy", "polygraphy")):
        try:
            parts[name] = str(import_module(package).__version__)
        except ImportError as error:
            absent[name] = str(error)
    try:
        parts["TensorRT"] = _tensorrt()
        on_gpu.append("TensorRT")
    except Exception as error:  # of a package that is half there, whatever it raises
        absent["TensorRT"] = shorten(str(error), 100)
    try:
        parts["tritonserver"] = _tritonserver()
    except ClientError as error:
        absent["tritonserver"] = shorten(str(error), 100)
    if device == "cuda" and not on_gpu:
        raise Failure("--device cuda: neither PyTorch, nor ONNX Runtime, nor TensorRT can use a GPU here")
    chosen = device or ("cuda" if on_gpu else "cpu")
    if chosen == "cpu":
        providers = [name for name in providers if name == "cpu"]
    return Found(chosen, _gpu_name() if chosen == "cuda" else cpu_model(), parts, absent, providers)


def gpu_memory() -> int | None:
    """Bytes in use on the first GPU, by all processes; None where nvidia-smi does not say."""
    shown = _nvidia_smi("memory.used")
    return int(shown) * _MIB if shown and shown.isdigit() else None


def _tritonserver() -> str:
    """What starts: the package's, wherever that is installed, or a program."""
    server = find_tritonserver()
    return f"nvidia-pytriton {version('nvidia-pytriton')}" if server.python_backend else str(server.executable)


def _torch() -> tuple[str, bool]:
    """Its version, and whether it can use a GPU."""
    import torch

    return str(torch.__version__), torch.cuda.is_available()


def _onnx_runtime() -> tuple[str, list[str]]:
    """Its version and providers."""
    import onnxruntime

    return str(onnxruntime.__version__), onnxruntime.get_available_providers()


def _tensorrt() -> str:
    """Its version. Raises ExportError where no engine can be built."""
    from export.tensorrt.engine import TensorRT

    return TensorRT().version


def _gpu_name() -> str:
    return _nvidia_smi("name") or "GPU"


def _nvidia_smi(what: str) -> str:
    program = shutil.which("nvidia-smi")
    if not program:
        return ""
    command = [program, f"--query-gpu={what}", "--format=csv,noheader,nounits", "--id=0"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else ""
