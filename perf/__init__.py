"""Measurements of the server and what it is compared with."""

import os

# Before onnxruntime is imported, here or in a process that is started from here: else it calls out.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
