"""What a server says about a family of models.

Written as generators, which both clients run (`_call.ask`): each yields a query and is sent the answer, or has
the ClientError raised there that came instead.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Generator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from client_sdk._errors import (
    AccessDenied,
    ClientError,
    DeadlineExceeded,
    InvalidArgument,
    ModelNotFound,
    ServerBusy,
    ServerError,
    ServerUnreachable,
    VersionChanged,
)
from client_sdk._kinds import DENSE, MULTI, ROLES, SCORES, SPARSE, Kind, family_of, given, kinds_of
from client_sdk._transport.base import Parameters, Query
from client_sdk._transport.known import Known, identities

EXPLAIN_TIMEOUT = 5.0
"""Seconds for finding out which models there are, when one is not."""

_NOT_READY = (ModelNotFound, ServerBusy, ServerUnreachable, DeadlineExceeded)

# What the steps of a classifier, or of sparse vectors, do not say.
_NO_VECTORS = {"dimension": "0", "pooling": "", "normalize": "false", "layers": "[]", "similarity": ""}


@dataclass(frozen=True)
class ModelInfo:
    """A served model and its defaults, which the options of a call override."""

    model: str
    version: int
    """That answers a call which does not name one: the highest that is served."""
    versions: tuple[int, ...]
    """All that are served; `model_version` chooses among them."""
    dimension: int
    """Numbers in a vector, with the default pooling and no `truncate_dim`."""
    max_seq_len: int
    """Tokens of a text that are used; special tokens count."""
    pooling: str
    normalize: bool
    layers: tuple[int, ...]
    """Layers of the network that a vector is made of, as Python indices."""
    max_batch_size: int
    """Texts that the server takes in one request."""
    prompts: dict[str, str]
    default_prompt_name: str | None
    backend: str
    """What runs the network: python, onnxruntime or tensorrt."""
    server_version: str
    identity: str = ""
    """A hash over network, tokenizer and settings, the same for vectors that can be compared; empty if the export
    is of a time before it."""
    similarity: str = "cosine"
    """How the checkpoint means vectors to be compared: cosine, dot, euclidean or manhattan; maxsim or meanmaxsim those
    for late interaction."""
    labels: tuple[str, ...] = ()
    """Of a classifier or cross-encoder, what each of its scores is for; none for a family of vectors. What is said of
    vectors (dimension, pooling, normalize, layers, similarity) is empty where there are labels."""
    activation: str = ""
    """What makes a classifier's scores of its logits: none, sigmoid or softmax."""
    splade: str = ""
    """How sparse vectors are made of logits, such as `max relu`, where they are."""
    multi: str = ""
    """What is done to the vectors of tokens, such as `identity normalize`, where the family gives them for late
    interaction."""
    kinds: dict[str, int] = field(default_factory=dict)
    """What the family gives: `dense`, `sparse` and `multi` vectors, some families several of them, or `scores`; and how
    many numbers each has, of which `dimension` is that of the first."""
    lengths: dict[str, int] = field(default_factory=dict)
    """Tokens that are used of a text of each `input_type`, of none by the name of nothing, where these are fewer than
    max_seq_len; of late interaction."""


def ensemble_roles(model: str) -> Generator[Query, dict[str, Any], tuple[str, ...]]:
    """Ask which of a family's models takes texts through all its steps; where that is not said, those that may."""
    try:
        config = yield Query("config", _last_step(model))
    except (AccessDenied, ModelNotFound):
        return ROLES
    return tuple(kind.role for kind in kinds_of(_parameters(config)))


def readiness(model: str, servers: int) -> Generator[Query, dict[str, Any], bool]:
    """Ask whether any of so many servers, which take queries in turn, can serve the model; each is asked once."""
    roles: tuple[str, ...] = ()
    for _ in range(servers):
        try:
            config = yield Query("config", _last_step(model))
        except AccessDenied:  # configurations may be closed where all else is open
            roles = ROLES
        except ModelNotFound:  # it may be an ensemble of its owner's own
            roles = (DENSE.role,)
            continue
        except _NOT_READY:
            continue
        else:
            roles = (kinds_of(_parameters(config))[0].role,)  # others have the same steps
        break
    for role in roles:
        for _ in range(servers):
            try:
                answer = yield Query("ready", model + role)
            except _NOT_READY:
                continue
            if answer.get("ready", False):
                return True
    return False


def model_info(model: str) -> Generator[Query, dict[str, Any], ModelInfo]:
    """Ask for a family's last step, which says its kinds, the first one's ensemble, the other steps and the server.

    Raises:
        ModelNotFound: It is a part of a family, not the whole.
        VersionChanged: The answers are of two models; each may have come from another server.
    """
    steps: dict[str, dict[str, Any]] = {}
    with suppress(ModelNotFound):  # it may be an ensemble of its owner's own
        steps[_last_step(model)] = yield Query("config", _last_step(model))
    kinds = kinds_of(_parameters(steps.get(_last_step(model), {})))
    ensemble = model + kinds[0].role
    config = yield Query("config", ensemble)
    expected = identities(config)
    parameters: dict[str, str] = {}
    backend = ""
    for step in config.get("ensemble_scheduling", {}).get("step", []):
        name = step["model_name"]
        if name not in steps:
            steps[name] = yield Query("config", name)
    for name, step_config in steps.items():
        found = identities(step_config)
        if expected and found and found != expected:
            raise VersionChanged(
                f"{name!r} is of another model {model!r} ({_listed(found)}) than was asked about first "
                f"({_listed(expected)}): it was replaced meanwhile, so ask again; or several servers have different "
                "ones, so ask one of them"
            )
        parameters |= _parameters(step_config)
        if name.endswith("_encoder"):
            backend = _backend(step_config)
    metadata = yield Query("metadata", ensemble)
    versions = tuple(sorted(int(version) for version in metadata.get("versions", []))) or (0,)
    server = yield Query("server")
    known = Known()
    known.note(Query("config", ensemble), config)
    try:
        if DENSE not in kinds:
            parameters = _NO_VECTORS | parameters
        return ModelInfo(
            model=model,
            version=versions[-1],
            versions=versions,
            dimension=int(parameters["dimension"]),
            max_seq_len=int(parameters["max_seq_len"]),
            pooling=parameters["pooling"],
            normalize=parameters["normalize"] == "true",
            layers=tuple(json.loads(parameters["layers"])),
            max_batch_size=int(config.get("max_batch_size", 0)),
            prompts=json.loads(parameters.get("prompts") or "{}"),
            default_prompt_name=parameters.get("default_prompt_name") or None,
            backend=backend,
            server_version=str(server.get("version", "")),
            identity=known.identity(ensemble, str(versions[-1])) or "",
            similarity=parameters.get("similarity", "cosine"),
            labels=_labels(parameters),
            activation=parameters.get("activation", ""),
            splade=parameters.get("splade", ""),
            multi=parameters.get("multi", ""),
            kinds={
                kind.name: len(_labels(parameters)) if kind is SCORES else kind.dimension(parameters) for kind in kinds
            },
            lengths=json.loads(parameters.get("lengths") or "{}"),
        )
    except (KeyError, ValueError) as error:
        if family_of(model):
            raise ModelNotFound(f"model {model!r} is a part of a family: give the family's name") from None
        reason = f"no parameter {error}" if isinstance(error, KeyError) else str(error)
        raise ServerError(
            f"the configuration of model {model!r} and its steps does not describe a text encoder "
            f"({reason}): was it written by this project's export, and by no older one?"
        ) from None


def labels_of(model: str) -> Generator[Query, dict[str, Any], tuple[tuple[str, ...], str | None]]:
    """Ask a classifier for its labels, in the order of its scores, and for its identity.

    Raises:
        InvalidArgument: It is a family of another kind.
    """
    parameters, identity = yield from _of_last_step(model)
    kinds = kinds_of(parameters)
    if SCORES not in kinds:
        raise InvalidArgument(f"model {model!r} gives {given(kinds)}, not scores of labels")
    return _labels(parameters), identity


def _dimension_of(model: str, kind: Kind, what: str) -> Generator[Query, dict[str, Any], tuple[int, str | None]]:
    """Ask a family that gives `what` for the size of a vector, and for its identity.

    Raises:
        InvalidArgument: It is a family of another kind.
    """
    parameters, identity = yield from _of_last_step(model)
    kinds = kinds_of(parameters)
    if kind not in kinds:
        raise InvalidArgument(f"model {model!r} gives {given(kinds)}, not {what}")
    return kind.dimension(parameters), identity


@dataclass(frozen=True)
class Measured:
    """What an export has measured of its vectors."""

    ranges: npt.NDArray[np.float32]
    """The least and the largest value of each number, [2, D]."""
    identity: str | None
    """Of the model that they are of; None if it has none."""

    def check(self, model: str, identity: str) -> None:
        """Raise VersionChanged unless they are of the family's model that has this identity, or if empty none."""
        if (self.identity or "") != identity:
            of, wanted = (name or "one of unknown identity" for name in (self.identity, identity))
            raise VersionChanged(
                f"the ranges that were asked for are of model {model!r} {of}, and {wanted} is to answer: vectors of "
                "two models must not be mixed"
            )


_RANGES = "ranges."  # and the version: a parameter of the last step

_GIVE_RANGES = "give ranges=numpy.stack([vectors.min(axis=0), vectors.max(axis=0)]), from vectors of the same options"


def measured_ranges(
    model: str, precision: str, parameters: Parameters, version: int | None = None, advice: str = _GIVE_RANGES
) -> Generator[Query, dict[str, Any], Measured]:
    """Ask for the ranges of a family's vectors, by which those of int8 and uint8 are made where none are given.

    Args:
        model: The family.
        precision: Of the vectors, for errors.
        parameters: Of the call, whose vectors must be as the family was exported.
        version: That is asked for; None for the highest that is served.
        advice: What else the caller can do, for errors.

    Raises:
        InvalidArgument: Its vectors are others, or have not been measured, or the family has no dense ones.
    """
    config = yield Query("config", _last_step(model))
    said, identity_of = _parameters(config), identities(config)
    kinds = kinds_of(said)
    if DENSE not in kinds:
        raise InvalidArgument(f"model {model!r} gives {given(kinds)}, not dense vectors")
    own = {
        "pooling": said.get("pooling"),
        "normalize": said.get("normalize") == "true",
        "truncate_dim": int(said.get("dimension", 0)),
    }
    for name, value in own.items():
        if parameters.get(name, value) != value:
            raise InvalidArgument(
                f"precision {precision!r} with {name}={parameters[name]!r}: the ranges that the export has measured "
                f"are of the vectors that model {model!r} gives by itself, with {name} {value}: {advice}"
            )
    there = sorted(
        {int(name.removeprefix(_RANGES)) for name in said if name.startswith(_RANGES)} | {*map(int, identity_of)}
    )
    if version is None and len(there) > 1:
        served = yield Query("metadata", model)
        version = max(map(int, served.get("versions", [])), default=there[-1])
    version = (there[0] if there else 1) if version is None else version
    written = said.get(f"{_RANGES}{version}")
    if not written:
        raise InvalidArgument(
            f"precision {precision!r}: the export of model {model!r} has measured no ranges, as older ones do not: "
            f"export it again, or {advice}"
        )
    try:
        ranges = np.frombuffer(base64.b64decode(written, validate=True), "<f4").reshape(2, -1).astype(np.float32)
    except ValueError as error:
        raise ServerError(f"the ranges in the configuration of model {model!r} cannot be read ({error})") from None
    return Measured(ranges, identity_of.get(str(version)))


def sparse_dimension(model: str) -> Generator[Query, dict[str, Any], tuple[int, str | None]]:
    """Ask for the size of the vocabulary, and the identity, of a family of sparse vectors. Raises InvalidArgument."""
    return _dimension_of(model, SPARSE, "sparse vectors")


def multi_dimension(model: str) -> Generator[Query, dict[str, Any], tuple[int, str | None]]:
    """Ask for the size of a token's vector, and the identity, of one for late interaction. Raises InvalidArgument."""
    return _dimension_of(model, MULTI, "vectors for late interaction")


def _of_last_step(model: str) -> Generator[Query, dict[str, Any], tuple[dict[str, str], str | None]]:
    """Its parameters, and the identity of what they are said of; None where it has none, or versions of several."""
    config = yield Query("config", _last_step(model))
    found = {*identities(config).values()}
    return _parameters(config), found.pop() if len(found) == 1 else None


def _last_step(model: str) -> str:
    """The step that every family has, and that says what kinds of answers it gives."""
    return f"{model}_pooling"


def _parameters(config: Mapping[str, Any]) -> dict[str, str]:
    return {name: value.get("string_value", "") for name, value in config.get("parameters", {}).items()}


def _labels(parameters: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(json.loads(parameters.get("labels") or "[]"))


def similarity_metric(model: str) -> Generator[Query, dict[str, Any], str]:
    """Ask how the family's vectors are meant to be compared, the dense ones if it has several kinds.

    Raises:
        InvalidArgument: It is a family of scores, or of sparse vectors.
    """
    parameters, _ = yield from _of_last_step(model)
    kinds = kinds_of(parameters)
    if {DENSE, MULTI}.isdisjoint(kinds):
        raise InvalidArgument(f"model {model!r} gives {given(kinds)}, not dense vectors: give metric=")
    return parameters.get("similarity", "cosine")


@dataclass(frozen=True)
class Served:
    """What a family has answered since the server started, or since the model was loaded last."""

    requests: int
    texts: int


def served(model: str) -> Generator[Query, dict[str, Any], Served]:
    """Ask what the family has answered, refusals included."""
    requests = texts = 0
    for name in (model, f"{model}_tokens"):
        statistics = yield Query("statistics", name)
        for entry in statistics.get("model_stats", []):
            outcomes = entry.get("inference_stats", {})
            requests += sum(int(outcomes.get(outcome, {}).get("count", 0)) for outcome in ("success", "fail"))
            texts += int(entry.get("inference_count", 0))
    return Served(requests, texts)


def served_families() -> Generator[Query, dict[str, Any], list[str]]:
    """Ask which families there are: their names, sorted.

    The statistics name all models; the repository index would too, but it is often closed.
    """
    statistics = yield Query("statistics")
    return _families({entry["name"] for entry in statistics.get("model_stats", [])})


def _families(models: Set[str]) -> list[str]:
    """Those among models that have a tokenizer and something that answers."""
    found = {name.removesuffix("_tokenizer") for name in models if name.endswith("_tokenizer")}
    return sorted(name for name in found if {name + role for role in ROLES} & models)


def missing_model(
    family: str, wanted: str, address: object, version: int | None = None, servers: int = 1
) -> Generator[Query, dict[str, Any], ClientError]:
    """Ask which families there are, for the error that says that `wanted`, a model of `family`, is not.

    It is InvalidArgument where the family is there and of another kind, so that it has no such model.

    If it is there after all, the `version` is not. So many servers take queries in turn; each is asked.
    """
    entries: list[dict[str, Any]] = []
    for _ in range(servers):
        statistics = yield Query("statistics")
        entries += statistics.get("model_stats", [])
    names = {entry["name"] for entry in entries}
    if version is not None and wanted in names:
        versions = ", ".join(
            sorted({str(entry.get("version")) for entry in entries if entry["name"] == wanted}, key=int)
        )
        return ModelNotFound(f"there is no version {version} of model {wanted!r} at {address}; there: {versions}")
    families = _families(names)
    if family not in families and (of := family_of(family)) in families and family in names:
        return ModelNotFound(f"model {family!r} at {address} is a part of the family {of!r}: give that name")
    kinds: tuple[Kind, ...] = ()
    if _last_step(family) in names:
        with suppress(AccessDenied, ModelNotFound):
            kinds = kinds_of(_parameters((yield Query("config", _last_step(family)))))
    if {family + kind.role for kind in kinds} & names and wanted in {family, f"{family}_tokens"} - names:
        return InvalidArgument(f"model {family!r} at {address} gives {given(kinds)}, and nothing else")
    there = ", ".join(families or sorted(names)) or "none"
    if wanted in names and _last_step(family) not in names:
        return ModelNotFound(f"model {wanted!r} at {address} is no family that this project's export has written")
    missing = wanted if family in families else family
    return ModelNotFound(f"there is no model {missing!r} at {address}; there: {there}")


def _listed(found: Mapping[str, str]) -> str:
    return ", ".join(f"version {version}: {identity}" for version, identity in sorted(found.items()))


def _backend(config: dict[str, Any]) -> str:
    return str(config.get("backend") or config.get("platform", ""))
