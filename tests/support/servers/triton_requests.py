"""Requests as any Triton client makes them, and how they are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


def infer(
    client: triton.InferenceServerClient,
    model: str,
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """The outputs of one request, by name."""
    tensors = []
    for name, array in inputs.items():
        dtype = {"O": "BYTES", "i": "INT32", "f": "FP32"}[array.dtype.kind]
        tensors.append(triton.InferInput(name, list(array.shape), dtype))
        tensors[-1].set_data_from_numpy(array)
    wanted = [triton.InferRequestedOutput(name) for name in outputs]
    result = client.infer(model, tensors, outputs=wanted, parameters=parameters or None)
    return {name: result.as_numpy(name) for name in outputs}


def refused(match: str) -> Any:
    """Within it, the server must refuse a request as wrong, and say so in words that match."""
    return pytest.raises(InferenceServerException, match=rf"INVALID_ARGUMENT.*{match}")
