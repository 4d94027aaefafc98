"""Requests to single steps over plain HTTP, as bytes, so that what no client would send can be sent."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from client_sdk import LocalServer


def post(server: LocalServer, model: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Status and answer of an inference request."""
    connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", f"/v2/models/{model}/infer", body)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())


def body_of(inputs: Mapping[str, np.ndarray], output: str, **parameters: Any) -> bytes:
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": {"i": "INT32", "f": "FP32"}[array.dtype.kind],
            "data": array.ravel().tolist(),
        }
        for name, array in inputs.items()
    ]
    return json.dumps({"inputs": tensors, "outputs": [{"name": output}], "parameters": parameters}).encode()


def ids_of(rows: list[list[int]]) -> dict[str, np.ndarray]:
    """The encoder's inputs for rows of ids."""
    width = max(len(row) for row in rows)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int32)
    return {
        "input_ids": np.array([row + [0] * (width - len(row)) for row in rows], np.int32),
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(mask),
        "pooling_mask": mask,
    }


def values(answer: dict[str, Any]) -> np.ndarray:
    """The only output of an answer."""
    (output,) = answer["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])
