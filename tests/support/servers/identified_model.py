"""A family that knows its identity, as an export writes it, behind a real tritonserver: it answers for no other."""

from __future__ import annotations

from pathlib import Path

_OUTPUTS = {
    "bert": "EMBEDDING:TYPE_FP32:-1 TOKEN_COUNT:TYPE_INT32:1",
    "bert_tokens": "TOKEN_EMBEDDING:TYPE_FP32:-1,-1 TOKENS:TYPE_STRING:-1 ATTENTION_MASK:TYPE_INT32:-1",
    "bert_tokenizer": "TOKEN_COUNT:TYPE_INT32:1",
}
_MODEL = """
import json
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.identity = parameters.get(f"identity.{args['model_version']}", {}).get("string_value")
        self.vector = [float(number) for number in parameters["vector"]["string_value"].split()]
        self.outputs = [output["name"] for output in json.loads(args["model_config"])["output"]]

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        wanted = json.loads(request.parameters()).get("identity")
        if wanted is not None and self.identity is None:
            return self.refuse("unknown parameter 'identity'; the parameters are pooling", "INVALID_ARG")
        if wanted is not None and wanted != self.identity:
            return self.refuse(
                f"identity: the request is for {wanted}, and this is {self.identity}: the model has been replaced",
                "NOT_FOUND",
            )
        texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()[:, 0]
        time.sleep(max([0.0] + [float(text[6:]) for text in texts if text.startswith(b"sleep ")]))
        rows, size = len(texts), len(self.vector)
        arrays = {
            "EMBEDDING": np.tile(np.array(self.vector, np.float32), (rows, 1)),
            "TOKEN_EMBEDDING": np.tile(np.array(self.vector, np.float32), (rows, 1, 1)),
            "TOKENS": np.full((rows, 1), b"token", object),
            "ATTENTION_MASK": np.ones((rows, 1), np.int32),
            "TOKEN_COUNT": np.full((rows, 1), size, np.int32),
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, arrays[name]) for name in self.outputs])

    def refuse(self, message, code):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, getattr(pb_utils.TritonError, code)))
"""


def make_identified(
    folder: Path, identity: str | None, vector: tuple[float, ...] = (1.0,), max_batch_size: int = 64
) -> Path:
    """A repository with the family `bert` of that identity (None: of an older export), whose every vector is `vector`.

    A text `sleep SECONDS` takes so long.
    """
    for name, outputs in _OUTPUTS.items():
        (folder / name / "1").mkdir(parents=True, exist_ok=True)
        parameters = {"vector": " ".join(map(str, vector))}
        if identity is not None:
            parameters["identity.1"] = identity
        (folder / name / "config.pbtxt").write_text(
            f'backend: "python"\nmax_batch_size: {max_batch_size}\n'
            'input { name: "TEXT" data_type: TYPE_STRING dims: -1 }\n'
            "instance_group { count: 1 kind: KIND_CPU }\n"
            + "".join(_output(*output.split(":")) for output in outputs.split())
            + "".join(
                f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
                for key, value in parameters.items()
            )
        )
        (folder / name / "1" / "model.py").write_text(_MODEL)
    return folder


def _output(name: str, data_type: str, dims: str) -> str:
    return f'output {{ name: "{name}" data_type: {data_type} dims: [ {dims} ] }}\n'
