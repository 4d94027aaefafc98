"""The network in ONNX Runtime."""

import os
from typing import TypeAlias

# Later releases of ONNX Runtime call out otherwise; it is read when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # noqa: E402

Session: TypeAlias = onnxruntime.InferenceSession


def session(path: str, threads: int) -> Session:
    """Load a network, to be run on so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Between the operators of a run threads wait spinning; after it they would take the cores from the other steps.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
