"""Triton's HTTP messages, built from requests and read into arrays: JSON, and the tensors behind it as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from client_sdk._transport.base import Arrays, InferRequest, Query
from client_sdk._transport.tensors import pack_strings, read_tensor

_JSON_LENGTH = "Inference-Header-Content-Length"  # bytes of a body that are JSON


def infer_body(request: InferRequest) -> tuple[str, dict[str, str], bytes]:
    """Path, headers and body of one inference."""
    rows = request.rows
    text = pack_strings(string for row in rows for string in row)
    described: dict[str, Any] = {
        "inputs": [
            {
                "name": "TEXT",
                "shape": [len(rows), len(rows[0])],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(text)},
            }
        ],
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in request.outputs],
    }
    parameters = dict(request.sent_parameters())
    if not request.outputs:  # all of them
        del described["outputs"]
        parameters["binary_data_output"] = True
    if parameters:
        described["parameters"] = parameters
    head = json.dumps(described).encode()
    headers = {_JSON_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    return _model_path(request.model, request.version) + "/infer", headers, head + text


def read_reply(headers: Mapping[str, str], body: bytes) -> tuple[Arrays, str]:
    """The outputs, without copying numbers, and the version of the model that answered.

    Raises:
        KeyError, TypeError, ValueError: The body is not a reply.
    """
    length = int(headers.get(_JSON_LENGTH, len(body)))
    described = json.loads(body[:length])
    arrays: Arrays = {}
    start = length
    for output in described["outputs"]:
        end = start + output["parameters"]["binary_data_size"]
        arrays[output["name"]] = read_tensor(output["datatype"], output["shape"], memoryview(body)[start:end])
        start = end
    return arrays, str(described.get("model_version", ""))


def query_path(query: Query) -> str:
    """Where a query is answered."""
    if query.kind == "server":
        return ""
    ends = {"config": "/config", "metadata": "", "ready": "/ready", "statistics": "/stats"}
    return (_model_path(query.model) if query.model else "models") + ends[query.kind]


def read_json(content: bytes) -> dict[str, Any]:
    """The answer to a query; raises ValueError if it is none."""
    answer = json.loads(content)
    if not isinstance(answer, dict):
        raise ValueError(f"a JSON object was expected, not {type(answer).__name__}")
    return answer


def read_error(content: bytes) -> str | None:
    """What Triton says is wrong; None if the content is not Triton's. An empty one may be a health endpoint's."""
    if not content:
        return "no reason was given"
    try:
        return str(json.loads(content)["error"])
    except (KeyError, TypeError, ValueError):
        return None


def _model_path(model: str, version: str = "") -> str:
    path = f"models/{quote(model, safe='')}"
    return f"{path}/versions/{version}" if version else path
