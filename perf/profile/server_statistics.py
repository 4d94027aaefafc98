"""Triton's own count of where time went (its statistics endpoint), between two moments."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import InferenceServerClient

PHASES = ("queue", "compute_input", "compute_infer", "compute_output")
_COUNTING_SECONDS = 2.0

Counters = Mapping[str, Mapping[str, int]]
"""Model -> counter -> value since the server's start; times in nanoseconds."""


@dataclass(frozen=True)
class ModelTimes:
    """Of one model, the mean over its requests, in milliseconds."""

    model: str
    requests: int
    executions: int
    total: float
    """From when the model was given the request until it was done with it."""
    phases: Mapping[str, float]
    """Of PHASES; they are nearly the total for a step, and nothing of the kind for an ensemble."""


class StatisticsEndpoint:
    """The statistics of a server, over gRPC.

    Args:
        address: `host:port`.
    """

    def __init__(self, address: str) -> None:
        self._client = InferenceServerClient(address)

    def counters(self) -> dict[str, dict[str, int]]:
        """What every model has counted so far."""
        return read_counters(self._client.get_inference_statistics(as_json=True))

    def after(self, before: Counters, model: str, requests: int) -> dict[str, dict[str, int]]:
        """The counters once `model` has counted `requests` more; a reply is sent a moment before it is counted."""
        deadline = time.monotonic() + _COUNTING_SECONDS
        while True:
            counters = self.counters()
            if between(before, counters, model).requests >= requests or time.monotonic() > deadline:
                return counters
            time.sleep(0.01)

    def steps(self, model: str) -> list[str]:
        """The models of an ensemble, in order."""
        return [step["model_name"] for step in self._config(model).get("ensemble_scheduling", {}).get("step", [])]

    def backend(self, model: str) -> str:
        """What a step runs in: python, onnxruntime or tensorrt."""
        return str(self._config(model)["backend"])

    def _config(self, model: str) -> dict[str, Any]:
        config: dict[str, Any] = self._client.get_model_config(model, as_json=True)["config"]
        return config


def read_counters(answer: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The answer of the endpoint, flat; versions of a model are added up."""
    counters: dict[str, dict[str, int]] = {}
    for model in answer.get("model_stats", []):
        mine = counters.setdefault(model["name"], {})
        found = {"executions": int(model.get("execution_count", 0))}
        for name in ("success", *PHASES):
            duration = model.get("inference_stats", {}).get(name, {})
            found[f"{name}_ns"] = int(duration.get("ns", 0))
            found[f"{name}_count"] = int(duration.get("count", 0))
        for name, value in found.items():
            mine[name] = mine.get(name, 0) + value
    return counters


def between(before: Counters, after: Counters, model: str) -> ModelTimes:
    """The means of `model` over the requests that ended between two looks at the counters."""

    def change(name: str) -> int:
        return after.get(model, {}).get(name, 0) - before.get(model, {}).get(name, 0)

    requests = change("success_count")
    each = 1e-6 / max(1, requests)
    return ModelTimes(
        model=model,
        requests=requests,
        executions=change("executions"),
        total=change("success_ns") * each,
        phases={phase: change(f"{phase}_ns") * each for phase in PHASES},
    )
