"""A model that misbehaves when its text says so, behind a real tritonserver: for what a good model never does."""

from pathlib import Path

CONFIG = """
backend: "python"
max_batch_size: 64
input { name: "TEXT" data_type: TYPE_STRING dims: -1 }
output { name: "EMBEDDING" data_type: TYPE_FP32 dims: -1 }
instance_group { count: 4 kind: KIND_CPU }
"""
MODEL = """
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()[:, 0]
        for text in texts:
            mood, _, detail = text.decode().partition(" ")
            if mood == "sleep":
                time.sleep(float(detail))
            elif mood == "until":
                open(detail + ".begun", "w").close()
                while not os.path.exists(detail):
                    time.sleep(0.02)
            elif mood == "busy" or (mood == "busy-until" and not os.path.exists(detail)):
                return self.refuse("Exceeds maximum queue size", pb_utils.TritonError.UNAVAILABLE)
            elif mood == "broken":
                with open(detail, "a") as attempts:
                    attempts.write("x")
                return self.refuse("the network broke", pb_utils.TritonError.INTERNAL)
        vectors = np.array([[len(text)] for text in texts], np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("EMBEDDING", vectors)])

    def refuse(self, message, code):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
"""


def make_moody_repository(repository: Path) -> Path:
    """A repository with the model `bert`: EMBEDDING [N, 1] is the length of the text, unless the text is a mood."""
    (repository / "bert" / "1").mkdir(parents=True)
    (repository / "bert" / "config.pbtxt").write_text(CONFIG)
    (repository / "bert" / "1" / "model.py").write_text(MODEL)
    return repository
