"""From a checkpoint of BERT or its kin to models that Triton serves."""

import os

# Before anything imports ONNX Runtime: it would call its makers, and keep a number of this machine in the home
# directory.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
