"""What Triton hands a step, as far as the steps use it: a batch is executed without a server."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np

from tests.support.patience import PATIENCE

Arrays = dict[str, np.ndarray]


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name = name
        self.array = array

    def as_numpy(self) -> np.ndarray:
        return self.array


class Error(Exception):
    CANCELLED, INTERNAL, INVALID_ARG, NOT_FOUND, UNAVAILABLE = range(5)

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Response:
    def __init__(self, tensors: Sequence[Tensor] = (), error: Error | None = None) -> None:
        self.tensors = tensors
        self.error = error


class Request:
    """A request, which is the sender of its response too."""

    def __init__(
        self,
        inputs: Arrays,
        outputs: Sequence[str],
        parameters: Mapping[str, Any] | None = None,
        microseconds: int = 0,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.options = json.dumps(parameters or {})
        self.microseconds = microseconds
        self.sent: list[Response] = []
        self.ended = threading.Event()

    def parameters(self) -> str:
        return self.options

    def requested_output_names(self) -> Sequence[str]:
        return self.outputs

    def timeout(self) -> int:
        return self.microseconds

    def is_cancelled(self) -> bool:
        return False

    def get_response_sender(self) -> Request:
        return self

    def send(self, response: Response | None = None, flags: int = 0) -> None:
        assert not self.ended.is_set()
        if response is not None:
            self.sent.append(response)
        if flags:
            self.ended.set()


def utilities() -> Any:
    """The stand-in for triton_python_backend_utils."""
    return mock.MagicMock(
        Tensor=Tensor,
        InferenceResponse=Response,
        TritonError=Error,
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
        get_input_tensor_by_name=lambda request, name: Tensor(name, request.inputs[name]),
    )


def execute(model: Any, batch: Sequence[Request]) -> list[Arrays | Error]:
    """What each request of a batch is answered, one answer each: its outputs, or its error."""
    answers: list[Arrays | Error] = []
    responses = model.execute(batch)
    assert len(responses) == len(batch)
    for request, returned in zip(batch, responses, strict=True):
        if returned is None:
            assert request.ended.wait(PATIENCE)
        (response,) = [returned] if returned is not None else request.sent
        answers.append(response.error or {tensor.name: tensor.array for tensor in response.tensors})
    return answers


def arguments(version: Any, name: str, config: Mapping[str, Any] | None = None, **settings: str) -> dict[str, str]:
    """Those of `initialize`, for a version directory; `settings` are the parameters in the config."""
    parameters = {key: {"string_value": value} for key, value in settings.items()}
    return {
        "model_name": name,
        "model_repository": str(version.parent),
        "model_version": version.name,
        "model_config": json.dumps({"parameters": parameters, "input": [], **(config or {})}),
    }
