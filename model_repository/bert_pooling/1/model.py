"""Reduced vectors to the vector asked for: a Triton Python-backend step.

`pooled` FP32 [N, 4, D] (mean, max, first, last, and more where the family's `reductions` say so) and, where the
checkpoint has a pooler, `pooler_output` FP32 [N, H] to EMBEDDING FP32: [N, D], [N, 2D] for two poolings side by side,
[N, H] for pooler, and fewer columns with truncate_dim. What the checkpoint has behind its pooling (the modules Dense,
LayerNorm and Normalize of sentence-transformers) follows the one that it was trained with.

`vectors` does the arithmetic; here is what is Triton's.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
import vectors
from stalls import Stalls

QUIET = 10.0  # seconds between two lines of the log

POOLER = ("pooler",)

COUNTERS = {
    "bert_not_finite_texts_total": "Texts refused as their vector is not finite",
    "bert_step_failures_total": "Failures inside a step that no request should have caused",
}


class Refused(Exception):
    """What is wrong with a request, for the one who sent it; `code` names one of Triton's error codes."""

    def __init__(self, message: str, code: str = "INVALID_ARG") -> None:
        super().__init__(message)
        self.code = code


class TritonPythonModel:
    """The step itself; Triton calls initialize once and execute with the requests of a batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the family's defaults, and the stages behind its pooling where it has any."""
        config = json.loads(args["model_config"])
        settings = {k: v["string_value"] for k, v in config["parameters"].items()}
        self.default_pooling = settings["pooling"]
        self.default_normalize = settings["normalize"] == "true"
        self.has_pooler = any(tensor["name"] == "pooler_output" for tensor in config["input"])
        self.reductions = json.loads(settings.get("reductions", json.dumps(vectors.REDUCTIONS)))
        self.stages = _stages(args, json.loads(settings.get("stages", "[]")))
        self.identity = _identity(args, settings)
        self.families = [  # a Metric lives only as long as its family
            pb_utils.MetricFamily(name=name, description=text, kind=pb_utils.MetricFamily.COUNTER)
            for name, text in COUNTERS.items()
        ]
        labels = {"model": args["model_name"].removesuffix("_pooling")}
        self.not_finite, self.failures = (family.Metric(labels=labels) for family in self.families)
        self.quiet_until = 0.0
        self.stalls = Stalls()

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Pools request by request; a wrong one gets an error of its own, whatever is wrong with it."""
        with self.stalls.batch():
            return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """End the thread; Triton calls this when every request has been answered."""
        self.stalls.end()

    def _respond(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        try:
            return pb_utils.InferenceResponse([pb_utils.Tensor("EMBEDDING", self._embed(request))])
        except Refused as refusal:
            message, code = str(refusal), getattr(pb_utils.TritonError, refusal.code)
        except BaseException as error:
            message, code = f"{type(error).__name__}: {str(error)[:500]}", pb_utils.TritonError.INTERNAL
            self._note(message)
        message = message.encode(errors="replace").decode()  # half a surrogate pair would not travel
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))

    def _note(self, message: str) -> None:
        now = time.monotonic()
        try:
            self.failures.increment(1)
            if now >= self.quiet_until:
                self.quiet_until = now + QUIET
                pb_utils.Logger.log_error(f"a request failed: {message}")
        except BaseException:  # the request is answered all the same
            pass

    def _embed(self, request: pb_utils.InferenceRequest) -> vectors.Array:
        parameters = _parameters(request)
        wanted = parameters.get("identity", self.identity)
        if self.identity is not None and wanted != self.identity:
            raise Refused(
                f"identity: the request is for {str(wanted)[:64]}, and this is {self.identity}: "
                "the model has been replaced",
                "NOT_FOUND",
            )
        pooling = parameters.get("pooling", self.default_pooling)
        parts = self._parts(pooling)
        if not parts:
            known = [name for name in vectors.POOLINGS if self._parts(name)] + ["pooler"] * self.has_pooler
            raise Refused(
                f"parameter pooling is {_shown(pooling)}; this model takes {', '.join(known)}, "
                "and several (not pooler) joined by +, each once, such as cls+mean"
            )
        normalize = parameters.get("normalize", self.default_normalize)
        if not isinstance(normalize, bool):
            raise Refused(f"parameter normalize is {_shown(normalize)}; it takes true or false")

        name = "pooler_output" if parts == POOLER else "pooled"
        x = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
        if parts != POOLER:
            x = vectors.reduced(x, [self.reductions.index(part) for part in parts])
        if self.stages and parts == self._parts(self.default_pooling):
            x = vectors.transformed(x, self.stages)
        size = parameters.get("truncate_dim", x.shape[1])
        if type(size) is not int or not 1 <= size <= x.shape[1]:
            raise Refused(f"parameter truncate_dim is {_shown(size)}; it takes 1 to {x.shape[1]}")
        x, finite = vectors.finished(x[:, :size], normalize)
        if not finite.all():
            self.not_finite.increment(int((~finite).sum()))
            raise Refused(f"the network gave a vector that is not finite for text {finite.argmin()}")
        return x

    def _parts(self, pooling: Any) -> tuple[str, ...]:
        """The reductions of a pooling; none if this model has no such pooling."""
        return POOLER if self.has_pooler and pooling == POOLER[0] else vectors.parts(pooling, self.reductions)


def _stages(args: dict[str, str], kinds: list[str]) -> list[vectors.Stage]:
    """What follows the pooling, with the arrays of it that are in a file."""
    of_stage: list[dict[str, vectors.Array]] = [{} for _ in kinds]
    if {*kinds} - {"normalize"}:
        path = os.path.join(args["model_repository"], args["model_version"], "stages.npz")
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                name, _, index = key.partition("_")
                of_stage[int(index)][name] = arrays[key]
    return [vectors.stage(kind, arrays) for kind, arrays in zip(kinds, of_stage, strict=True)]


def _parameters(request: pb_utils.InferenceRequest) -> Any:
    try:
        return json.loads(request.parameters() or "{}")
    except ValueError as error:  # of bytes that are no UTF-8 too
        raise Refused(f"the parameters of the request cannot be read: {error}") from None


def _shown(value: Any) -> str:
    """A parameter's value in an error, which need not be as long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _identity(args: dict[str, str], settings: dict[str, str]) -> str | None:
    """The identity in the config of this version, if that of its files is the same; None where the config has none.

    To be read when all files have been: Triton reads the configs first, and an export may come between.
    """
    identity = settings.get(f"identity.{args['model_version']}")
    if identity is None:
        return None
    path = os.path.join(args["model_repository"], args["model_version"], "identity")
    try:
        with open(path, encoding="ascii") as file:
            found = file.read()
    except OSError:
        found = "not there"
    if found != identity:
        raise pb_utils.TritonModelException(
            f"{path} is {found}, and config.pbtxt says {identity}: the model was exported again while it was loaded, "
            "or only a part of it was copied; start the server again, or export again"
        )
    return identity
