"""Reduced vectors to the vector asked for: a Triton Python-backend step.

`pooled` FP32 [N, 4, D] (mean, max, first, last) and, where the checkpoint has a pooler, `pooler_output` FP32 [N, H] to
EMBEDDING FP32: [N, D], [N, 2D] for mean_max, [N, H] for pooler, and fewer columns with truncate_dim. The checkpoint's
own Dense layers (sentence-transformers' modules) follow the pooling that they were trained with.
"""

import json
import math
import os

import numpy as np
import triton_python_backend_utils as pb_utils

PLACES = {"mean": slice(0, 1), "max": slice(1, 2), "mean_max": slice(0, 2), "cls": slice(2, 3), "last": slice(3, 4)}
ACTIVATIONS = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf, otypes=[np.float32])(x / np.float32(math.sqrt(2)))),
}


class BadRequest(Exception):
    """What is wrong with a request, for the one who sent it."""


class TritonPythonModel:
    """The step itself; Triton calls initialize once and execute with the requests of a batch."""

    def initialize(self, args):
        """Reads the family's defaults, and its Dense layers where it has any."""
        config = json.loads(args["model_config"])
        settings = {k: v["string_value"] for k, v in config["parameters"].items()}
        self.default_pooling = settings["pooling"]
        self.default_normalize = settings["normalize"] == "true"
        self.poolings = list(PLACES)
        if any(tensor["name"] == "pooler_output" for tensor in config["input"]):
            self.poolings.append("pooler")
        self.dense = []
        activations = json.loads(settings.get("dense_activations", "[]"))
        if activations:
            path = os.path.join(args["model_repository"], args["model_version"], "dense.npz")
            with np.load(path, allow_pickle=False) as arrays:
                self.dense = [
                    (arrays[f"weight_{i}"].T, arrays[f"bias_{i}"], ACTIVATIONS[activation])
                    for i, activation in enumerate(activations)
                ]

    def execute(self, requests):
        """Pools request by request; a wrong one gets an error of its own."""
        responses = []
        for request in requests:
            try:
                embedding = self._embed(request)
            except BadRequest as error:
                refusal = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse(error=refusal))
            else:
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("EMBEDDING", embedding)]))
        return responses

    def _embed(self, request):
        parameters = json.loads(request.parameters() or "{}")
        pooling = parameters.get("pooling", self.default_pooling)
        if pooling not in self.poolings:
            raise BadRequest(f"parameter pooling is {pooling!r}; this model takes {', '.join(self.poolings)}")
        normalize = parameters.get("normalize", self.default_normalize)
        if not isinstance(normalize, bool):
            raise BadRequest(f"parameter normalize is {normalize!r}; it takes true or false")

        name = "pooler_output" if pooling == "pooler" else "pooled"
        x = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
        if pooling != "pooler":
            x = x[:, PLACES[pooling]].reshape(len(x), -1)
        if pooling == self.default_pooling:
            for weight, bias, activation in self.dense:
                x = activation(x @ weight + bias)

        size = parameters.get("truncate_dim", x.shape[1])
        if type(size) is not int or not 1 <= size <= x.shape[1]:
            raise BadRequest(f"parameter truncate_dim is {size!r}; it takes 1 to {x.shape[1]}")
        x = x[:, :size]
        if normalize:  # 1e-12: as torch.nn.functional.normalize, so that a zero vector stays zero
            x = x / np.maximum(np.sqrt(np.square(x).sum(axis=1, keepdims=True)), np.float32(1e-12))
        return np.ascontiguousarray(x)
