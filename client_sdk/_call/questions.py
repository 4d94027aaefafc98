"""What a server says about a family of models.

Written as generators, which both clients run (`_call.drive.ask`): each yields a query and is sent the answer.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from client_sdk._errors import InvalidArgument, ModelNotFound, ServerError, VersionChanged
from client_sdk._transport.base import Query
from client_sdk._transport.known import Known, identities

EXPLAIN_TIMEOUT = 5.0
"""Seconds for finding out which models there are, when one is not."""

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
    """How the checkpoint means vectors to be compared: cosine, dot, euclidean or manhattan."""
    labels: tuple[str, ...] = ()
    """Of a classifier or cross-encoder, what each of its scores is for; none for a family of vectors. What is said of
    vectors (dimension, pooling, normalize, layers, similarity) is empty where there are labels."""
    activation: str = ""
    """What makes a classifier's scores of its logits: none, sigmoid or softmax."""
    splade: str = ""
    """How sparse vectors are made of logits, such as `max relu`, where the family gives them, of as many words as
    `dimension` says."""


def ensembles(model: str) -> tuple[str, str]:
    """What the ensemble of a family may be called that has one alone: that of its name, or of sparse vectors."""
    return model, f"{model}_sparse"


def model_info(model: str, ensemble: str = "") -> Generator[Query, dict[str, Any], ModelInfo]:
    """Ask for a family's ensemble (that of its name, unless another is given), its steps and the server.

    Raises:
        VersionChanged: The answers are of two models; each may have come from another server.
    """
    ensemble = ensemble or model
    config = yield Query("config", ensemble)
    expected = identities(config)
    parameters: dict[str, str] = {}
    backend = ""
    for step in config.get("ensemble_scheduling", {}).get("step", []):
        step_config = yield Query("config", step["model_name"])
        found = identities(step_config)
        if expected and found and found != expected:
            raise VersionChanged(
                f"{step['model_name']!r} is of another model {model!r} ({_listed(found)}) than was asked about first "
                f"({_listed(expected)}): it was replaced meanwhile, so ask again; or several servers have different "
                "ones, so ask one of them"
            )
        for name, value in step_config.get("parameters", {}).items():
            parameters[name] = value.get("string_value", "")
        if step["model_name"].endswith("_encoder"):
            backend = _backend(step_config)
    metadata = yield Query("metadata", ensemble)
    versions = tuple(sorted(int(version) for version in metadata.get("versions", []))) or (0,)
    server = yield Query("server")
    known = Known()
    known.note(Query("config", ensemble), config)
    try:
        labels = _labels(parameters)
        if labels or "splade" in parameters:
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
            labels=labels,
            activation=parameters.get("activation", ""),
            splade=parameters.get("splade", ""),
        )
    except (KeyError, ValueError) as error:
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
    labels = _labels(parameters)
    if not labels:
        raise InvalidArgument(f"model {model!r} gives {_given(parameters)}, not scores of labels")
    return labels, identity


def sparse_dimension(model: str) -> Generator[Query, dict[str, Any], tuple[int, str | None]]:
    """Ask a family of sparse vectors for the size of its vocabulary, and for its identity.

    Raises:
        InvalidArgument: It is a family of another kind.
    """
    parameters, identity = yield from _of_last_step(model)
    if "splade" not in parameters:
        raise InvalidArgument(f"model {model!r} gives {_given(parameters)}, not sparse vectors")
    return int(parameters["dimension"]), identity


def _of_last_step(model: str) -> Generator[Query, dict[str, Any], tuple[dict[str, str], str | None]]:
    """Its parameters, and the identity of what they are said of; None where it has none, or versions of several."""
    config = yield Query("config", f"{model}_pooling")
    parameters = {name: value.get("string_value", "") for name, value in config.get("parameters", {}).items()}
    found = {*identities(config).values()}
    return parameters, found.pop() if len(found) == 1 else None


def _given(parameters: Mapping[str, str]) -> str:
    """What a family gives, and how it is asked for."""
    if "splade" in parameters:
        return "sparse vectors (encode_sparse)"
    return "scores (score, rerank, classify)" if "labels" in parameters else "vectors (encode, encode_tokens)"


def _labels(parameters: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(json.loads(parameters.get("labels") or "[]"))


def similarity_metric(model: str) -> Generator[Query, dict[str, Any], str]:
    """Ask how the family's vectors are meant to be compared.

    Raises:
        InvalidArgument: It is a family of another kind than dense vectors.
    """
    parameters, _ = yield from _of_last_step(model)
    if {"labels", "splade"} & {*parameters}:
        raise InvalidArgument(f"model {model!r} gives {_given(parameters)}, not dense vectors: give metric=")
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


def missing_model(
    family: str, wanted: str, address: object, version: int | None = None
) -> Generator[Query, dict[str, Any], ModelNotFound]:
    """Ask which families there are, for the error that says that `wanted`, a model of `family`, is not.

    If it is there after all, the `version` is not.

    The statistics name all models; the repository index would too, but it is often closed.
    """
    statistics = yield Query("statistics")
    entries = statistics.get("model_stats", [])
    names = {entry["name"] for entry in entries}
    if version is not None and wanted in names:
        versions = ", ".join(
            sorted((str(entry.get("version")) for entry in entries if entry["name"] == wanted), key=int)
        )
        return ModelNotFound(f"there is no version {version} of model {wanted!r} at {address}; there: {versions}")
    found = {name.removesuffix("_tokenizer") for name in names if name.endswith("_tokenizer")}
    families = sorted(name for name in found if {*ensembles(name)} & names)
    if ensembles(family)[1] in names and family not in names:
        return ModelNotFound(f"model {family!r} at {address} gives sparse vectors (encode_sparse), and nothing else")
    there = ", ".join(families or sorted(names)) or "none"
    if wanted == f"{family}_tokens" and family in names:
        return ModelNotFound(f"model {family!r} at {address} gives scores, and no vectors of tokens")
    missing = wanted if family in names else family
    return ModelNotFound(f"there is no model {missing!r} at {address}; there: {there}")


def _listed(found: Mapping[str, str]) -> str:
    return ", ".join(f"version {version}: {identity}" for version, identity in sorted(found.items()))


def _backend(config: dict[str, Any]) -> str:
    return str(config.get("backend") or config.get("platform", ""))
