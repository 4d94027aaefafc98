"""What stands in a model repository: the models to serve, what is left out, and what must not be served."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client_sdk._errors import InvalidArgument
from client_sdk._kinds import Kind, kinds_of

# A model's name becomes part of URLs, and of a command that Triton's Python backend hands to a shell.
_MODEL_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
# tritonserver takes no other directory for a version.
_VERSION = re.compile(r"0|[1-9][0-9]*")
_STORAGE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# The file without which a version cannot be loaded, by backend.
_NETWORK_FILES = {"python": "model.py", "onnxruntime": "model.onnx", "tensorrt": "model.plan"}
# Where export writes the identity of a version: into the config, with its number, and beside the files of a step.
_IDENTITY = "identity."
_IDENTITY_FILE = "identity"
_HOW_TO_FILL = "python -m export CHECKPOINT --repository DIR"


@dataclass(frozen=True)
class Model:
    """One directory of a repository.

    Attributes:
        name: Of the directory, and of the model.
        path: The directory.
        config: Its config.pbtxt, a tritonclient.grpc.model_config_pb2.ModelConfig; None if it cannot be read, which
            tritonserver says best.
        versions: The versions that can be loaded, ascending.
        left_out: Names in the directory that tritonserver stumbles over: links that lead nowhere, and version
            directories that lack what their backend loads, such as a copy that was broken off leaves.
        unmarked: The identities in its config, by parameter, unless it is a step that compares them with its files.
    """

    name: str
    path: Path
    config: Any
    versions: tuple[int, ...]
    left_out: tuple[str, ...]
    unmarked: Mapping[str, str]

    @property
    def is_ensemble(self) -> bool:
        """Whether it hands its requests to other models."""
        return self.config is not None and bool(self.config.ensemble_scheduling.step)

    @property
    def served_versions(self) -> tuple[int, ...]:
        """Those of `versions` that its version_policy has tritonserver load."""
        if self.config is None:
            return self.versions[-1:]
        policy = self.config.version_policy
        choice = policy.WhichOneof("policy_choice")
        if choice == "all":
            return self.versions
        if choice == "specific":
            return tuple(version for version in self.versions if version in policy.specific.versions)
        return self.versions[-max(1, policy.latest.num_versions if choice == "latest" else 1) :]


@dataclass(frozen=True)
class ModelRepository:
    """A directory of models, as it was when it was read.

    Attributes:
        path: The directory.
        models: What is served, by name.
        left_out: What else is there, each entry with the reason why it is not served.
        holds_strangers: Whether tritonserver would stumble over what is left out, given the directory as it is.
    """

    path: Path
    models: tuple[Model, ...]
    left_out: tuple[str, ...]
    holds_strangers: bool

    @property
    def names(self) -> list[str]:
        """Of the models."""
        return [model.name for model in self.models]

    @property
    def families(self) -> list[str]:
        """The names that clients call those by that are made of texts' steps."""
        found = (name.removesuffix("_tokenizer") for name in self.names if name.endswith("_tokenizer"))
        return [name for name in found if self._ensemble(name) in self.names]

    @property
    def ensembles(self) -> list[str]:
        """Of each family, a model that takes texts through all its steps; others of it have the same steps."""
        return [self._ensemble(family) for family in self.families]

    def kind(self, family: str) -> Kind:
        """What a family gives, as its last step says; of several kinds the first."""
        configs = (model.config for model in self.models if model.name == f"{family}_pooling")
        return kinds_of(next((config.parameters for config in configs if config is not None), ()))[0]

    def _ensemble(self, family: str) -> str:
        return family + self.kind(family).role


def local_directory(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a model repository. Raises InvalidArgument if it is none of this machine's directories."""
    given = os.fspath(path)
    if _STORAGE.match(given):
        raise InvalidArgument(
            f"model repository {given!r} is in remote storage, and what is served here is a directory of this machine: "
            f"copy it to one, or start tritonserver itself with --model-repository={given}"
        )
    try:
        return Path(given).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # such as a link that leads to itself
        raise InvalidArgument(f"model repository {given!r} cannot be a directory: {error}") from None


def read_repository(path: Path) -> ModelRepository:
    """Read every config.pbtxt in `path`.

    Raises:
        InvalidArgument: it is missing or holds no models, or one that cannot be served, or would answer wrongly.
    """
    if not path.is_dir():
        state = "is not a directory" if path.exists() else "does not exist"
        raise InvalidArgument(f"model repository {str(path)!r} {state}: {_HOW_TO_FILL} makes one")
    models, left_out, strangers = [], [], False
    for entry in _entries(path):
        reason = _why_no_model(entry)
        if reason is None:
            models.append(_read_model(entry))
        elif not (entry.name.startswith(".") and os.path.isfile(entry)):  # such as .gitignore
            left_out.append(f"{entry.name!r} ({reason})")
            strangers |= not os.path.isfile(entry)
    if not models:
        state = f"holds no model, only {', '.join(left_out)}" if left_out else "is empty"
        raise InvalidArgument(f"model repository {str(path)!r} {state}: {_HOW_TO_FILL} fills it")
    _check_ensembles(path, {model.name: model for model in models})
    inside = [f"{f'{model.name}/{name}'!r} (unfinished)" for model in models for name in model.left_out]
    return ModelRepository(path, tuple(models), (*left_out, *inside), strangers or bool(inside))


def repository_state(path: Path) -> object:
    """Something that is another when models, or their configs, have been put into the repository or edited there."""
    state = []
    with contextlib.suppress(OSError):
        for found in (path, *path.glob("*"), *path.glob("*/config.pbtxt")):
            with contextlib.suppress(OSError):
                stat = found.stat()
                state.append((found, stat.st_ino, stat.st_mtime_ns))
    return sorted(state)


def replaced_since(repository: ModelRepository) -> list[str]:
    """The models of which nobody can tell whether their files were loaded before or after an export replaced them.

    tritonserver reads all configs first. So a model of which the config still says what it said before is whole.
    """
    return [
        model.name
        for model in repository.models
        if model.unmarked and _identities(_read_config(model.path / "config.pbtxt")) != model.unmarked
    ]


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        raise InvalidArgument(f"{str(directory)!r} cannot be read: {error.strerror}") from None


def _why_no_model(entry: Path) -> str | None:
    """Why tritonserver is not to take `entry` for a model; None if it is one. Raises InvalidArgument for its name."""
    if not os.path.exists(entry):
        return "a link that leads nowhere" if os.path.islink(entry) else "it cannot be looked at"
    if not os.path.isdir(entry):
        return "not a directory"
    if entry.name.startswith("."):
        return "hidden"
    if not os.access(entry, os.R_OK | os.X_OK):
        return "it cannot be read"
    if not (entry / "config.pbtxt").exists():
        if any(_VERSION.fullmatch(inner.name) for inner in _entries(entry)):
            raise InvalidArgument(f"{str(entry)!r} has no config.pbtxt: finish the copy or the export, or remove it")
        return "no config.pbtxt"
    if not _MODEL_NAME.fullmatch(entry.name):
        raise InvalidArgument(
            f"model {str(entry)!r}: a model's name has letters (a-z, A-Z), digits, _ . and - only, so rename the "
            "directory, and what names it in config.pbtxt files"
        )
    return None


def _read_model(path: Path) -> Model:
    config = _read_config(path / "config.pbtxt")
    entries = _entries(path)
    numbered = [entry.name for entry in entries if re.fullmatch("[0-9]+", entry.name) and os.path.isdir(entry)]
    versions = sorted(int(name) for name in numbered if _VERSION.fullmatch(name))
    if numbered and not versions:
        raise InvalidArgument(
            f"model {str(path)!r} has no version: {numbered[0]!r} starts with 0, which tritonserver passes over"
        )
    finished = [version for version in versions if _is_finished(path / str(version), config)]
    # Where no version is finished, tritonserver says what is wrong with the last one.
    unfinished = [str(version) for version in versions if finished and version not in finished]
    dangling = [entry.name for entry in entries if not os.path.exists(entry)]
    marks = [os.path.exists(path / str(version) / _IDENTITY_FILE) for version in finished or versions]
    compares = config is not None and config.backend == "python" and any(marks)
    is_ensemble = config is not None and bool(config.ensemble_scheduling.step)  # which has no files
    return Model(
        name=path.name,
        path=path,
        config=config,
        versions=tuple(finished or versions),
        left_out=(*unfinished, *dangling),
        unmarked={} if compares or is_ensemble else _identities(config),
    )


def _identities(config: Any) -> dict[str, str]:
    parameters = config.parameters if config is not None else {}
    return {key: parameters[key].string_value for key in parameters if key.startswith(_IDENTITY)}


def _read_config(path: Path) -> Any:
    # Here, since clients need none of it.
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    try:
        # A later Triton's config may have fields that are not known here.
        return text_format.Parse(path.read_text(), ModelConfig(), allow_unknown_field=True)
    except (OSError, UnicodeDecodeError, text_format.ParseError):
        return None


def _is_finished(version: Path, config: Any) -> bool:
    if config is None or config.ensemble_scheduling.step:
        return True  # an ensemble's is empty
    backend = config.backend or config.platform.partition("_")[0]
    name = config.default_model_filename or _NETWORK_FILES.get(backend)
    if not os.access(version, os.R_OK | os.X_OK):
        return False
    return os.path.exists(version / name) if name else any(version.iterdir())


def _check_ensembles(repository: Path, models: Mapping[str, Model]) -> None:
    """Raise InvalidArgument for an ensemble that would give wrong vectors without a word."""
    for ensemble in models.values():
        if ensemble.is_ensemble:
            members = [models[name] for name in _members(ensemble.name, models)]
            for model in members:
                _check_member(model)
            _check_versions(repository, ensemble, members)


def _members(name: str, models: Mapping[str, Model]) -> list[str]:
    """`name`, and all to whom it hands requests, directly or not; those that are there."""
    found: list[str] = []
    waiting = [name]
    while waiting:
        model = models.get(waiting.pop())
        if model and model.name not in found:
            found.append(model.name)
            waiting += [step.model_name for step in model.config.ensemble_scheduling.step] if model.config else []
    return found


def _check_member(model: Model) -> None:
    if model.config is None:
        return
    if model.config.response_cache.enable:
        raise InvalidArgument(
            f"{str(model.path / 'config.pbtxt')!r} turns on response_cache, which compares texts and not options "
            "(pooling, prompt, truncate_dim ...), and so answers with vectors of other options: remove it there, and "
            "export with --cache SIZE for texts that come again"
        )
    if len(model.served_versions) > 1:
        raise InvalidArgument(
            f"{str(model.path / 'config.pbtxt')!r} has a version_policy that serves versions "
            f"{_listed(model.served_versions)} at once, and an ensemble takes its steps at their highest version: "
            f"it would answer for all of them with version {model.served_versions[-1]}'s vectors. Remove the "
            "version_policy, and export the other model under a name of its own (python -m export CHECKPOINT --name N)"
        )


def _check_versions(repository: Path, ensemble: Model, members: Iterable[Model]) -> None:
    """Raise InvalidArgument unless the models that export writes together are served in the same version."""
    steps = [model.name.removesuffix("_tokenizer") for model in members if model.name.endswith("_tokenizer")]
    family = next((name for name in steps if f"{ensemble.name}_".startswith(f"{name}_")), ensemble.name)
    written = [model for model in members if f"{model.name}_".startswith(f"{family}_") and model.config is not None]
    versions = {model.name: model.served_versions[0] for model in written if model.served_versions}
    if len(set(versions.values())) > 1:
        listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        raise InvalidArgument(
            f"model repository {str(repository)!r} would serve {ensemble.name!r} in a mixture of versions ({listed}): "
            "finish the export or the copy, or remove the version directories that not all of these have"
        )


def _listed(versions: tuple[int, ...]) -> str:
    return " and ".join(filter(None, (", ".join(map(str, versions[:-1])), str(versions[-1]))))
