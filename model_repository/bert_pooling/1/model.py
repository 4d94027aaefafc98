"""What the encoder gives to what is asked for: the last step of an ensemble, in Triton's Python backend.

`embedding` makes vectors, `scores` makes those of a classifier, `sparse` cuts sparse vectors, `lexical` makes them of
tokens' weights, `multi` says which vectors of tokens count; here is what is Triton's. A family may give several of
these: each of its ensembles hands over what its own answer is made of.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy.typing as npt
import triton_python_backend_utils as pb_utils
from embedding import Embedding
from lexical import Lexical
from multi import Multi
from refused import Refused
from scores import Scores
from sparse import Sparse
from stalls import Stalls

Kind: TypeAlias = Embedding | Scores | Sparse | Lexical | Multi

# What tells in a family's settings that it gives something of a kind.
KINDS: dict[str, Callable[[dict[str, str], list[str], str], Kind]] = {
    "pooling": Embedding,
    "labels": lambda settings, inputs, directory: Scores(settings),
    "splade": lambda settings, inputs, directory: Sparse(settings),
    "lexical": lambda settings, inputs, directory: Lexical(settings),
    "multi": lambda settings, inputs, directory: Multi(settings),
}

QUIET = 10.0  # seconds between two lines of the log

COUNTERS = {
    "bert_not_finite_texts_total": "Texts refused as their vector is not finite",
    "bert_step_failures_total": "Failures inside a step that no request should have caused",
}


class TritonPythonModel:
    """The step itself; Triton calls initialize once and execute with the requests of a batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read what the family gives, and its defaults."""
        config = json.loads(args["model_config"])
        settings = {k: v["string_value"] for k, v in config["parameters"].items()}
        inputs = [tensor["name"] for tensor in config["input"]]
        directory = os.path.join(args["model_repository"], args["model_version"])
        self.kinds = [make(settings, inputs, directory) for mark, make in KINDS.items() if mark in settings]
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
        """Answers request by request; a wrong one gets an error of its own, whatever is wrong with it."""
        with self.stalls.batch():
            return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """End the thread; Triton calls this when every request has been answered."""
        self.stalls.end()

    def _respond(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        try:
            kind = self._kind(request)
            found = self._compute(kind, request)
            return pb_utils.InferenceResponse(
                [pb_utils.Tensor(*output) for output in zip(kind.outputs, found, strict=True)]
            )
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

    def _kind(self, request: pb_utils.InferenceRequest) -> Kind:
        """What a request is for, by what it hands over; all inputs are optional where there are several kinds."""
        if len(self.kinds) == 1:
            return self.kinds[0]
        found = next((kind for kind in self.kinds if _tensor(request, kind.reads) is not None), None)
        if found is None:
            raise Refused(f"there is none of the inputs {', '.join(kind.reads for kind in self.kinds)}")
        return found

    def _compute(self, kind: Kind, request: pb_utils.InferenceRequest) -> tuple[npt.NDArray[Any], ...]:
        parameters = _parameters(request)
        wanted = parameters.get("identity", self.identity)
        if self.identity is not None and wanted != self.identity:
            raise Refused(
                f"identity: the request is for {str(wanted)[:64]}, and this is {self.identity}: "
                "the model has been replaced",
                "NOT_FOUND",
            )
        for name in kind.of_others:
            if name in parameters:
                raise Refused(f"parameter {name} is not for this model, which gives {kind.said}")
        found, finite = kind.compute(parameters, lambda name: _array(request, name))
        if not finite.all():
            self.not_finite.increment(int((~finite).sum()))
            raise Refused(f"the network gave {kind.one} not finite for text {finite.argmin()}")
        return found


def _tensor(request: pb_utils.InferenceRequest, name: str) -> pb_utils.Tensor | None:
    """An input; None where it is optional and not there."""
    return pb_utils.get_input_tensor_by_name(request, name)


def _array(request: pb_utils.InferenceRequest, name: str) -> npt.NDArray[Any]:
    tensor = _tensor(request, name)
    if tensor is None:
        raise Refused(f"the input {name} is missing")
    return tensor.as_numpy()


def _parameters(request: pb_utils.InferenceRequest) -> Any:
    try:
        return json.loads(request.parameters() or "{}")
    except ValueError as error:  # of bytes that are no UTF-8 too
        raise Refused(f"the parameters of the request cannot be read: {error}") from None


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
