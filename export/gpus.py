"""What a request says about GPUs and TensorRT: what goes together, and what holds where nothing is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.errors import ExportError
from export.tensorrt import profiles as ranges
from export.tensorrt.profiles import Profile

if TYPE_CHECKING:
    from export.pipeline import Request

# Requests share a batch on TensorRT only if their S is equal, and only such as stand side by side in the queue. Wider
# steps make longer batches and more padding; up to the first profile's end all short texts are one shape.
PAD_TO_MULTIPLE_OF = 32


def check(request: Request) -> None:
    """Refuses options that do not go together.

    Raises:
        ExportError: says which, and what to do.
    """
    on_gpu = of_encoder(request) is not None
    if on_gpu and request.backend == "python":
        raise ExportError("--gpus needs --backend onnxruntime or tensorrt: the python backend computes on CPUs")
    if request.precision == "fp16" and not on_gpu:
        raise ExportError("--precision fp16 is for GPUs: give --gpus all, or --precision int8 for CPUs")
    if request.precision == "int8" and on_gpu and request.backend != "tensorrt":
        raise ExportError(
            "--precision int8 is for CPUs and for TensorRT: give --precision fp16, or --backend tensorrt, for GPUs"
        )
    if request.backend != "tensorrt":
        for option, value in (
            ("--profiles", request.profiles),
            ("--pad-to-multiple-of", request.pad_to_multiple_of),
            ("--workspace", request.workspace),
            ("--timing-cache", request.timing_cache),
        ):
            if value is not None:
                raise ExportError(f"{option} is for --backend tensorrt; leave it out, or give that")


def of_encoder(request: Request) -> tuple[int, ...] | None:
    """The GPUs of the encoder, none named for all; None for the CPU."""
    return () if request.gpus is None and request.backend == "tensorrt" else request.gpus


def device(request: Request) -> int:
    """The GPU to build an engine on."""
    return request.gpus[0] if request.gpus else 0


def instances(request: Request) -> int:
    """Two on a GPU: while one computes, the other's tensors are copied; they share the weights."""
    return 1 if of_encoder(request) is None else 2


def profiles(request: Request, max_seq_len: int) -> tuple[Profile, ...]:
    """The profiles of an engine; none for other backends.

    Raises:
        ExportError: they end before max_seq_len.
    """
    return ranges.fitted(request.profiles or ranges.DEFAULT, max_seq_len) if request.backend == "tensorrt" else ()


def pad_to_multiple_of(request: Request) -> int:
    """To what the tokenizer rounds S up: 1, but for TensorRT."""
    return request.pad_to_multiple_of or (PAD_TO_MULTIPLE_OF if request.backend == "tensorrt" else 1)
