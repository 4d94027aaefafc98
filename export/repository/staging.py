"""Puts a family of models into a Triton model repository, all of it or nothing.

An export is laid out in a staging directory first: every model of the family, whole, with the versions that it keeps.
Then one rename decides (`new` becomes `commit`), and the models take their places. Whoever is killed before that has
changed nothing; whoever is killed later leaves what is to be done behind, and the next export or the next start of a
local server does it. Meanwhile the family's ensembles are the first to go and the last to come, so that no server ever
loads a mixture of two exports.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.errors import ExportError
from export.repository.configs import (
    FOR_CLIENTS,
    IDENTITY,
    OF_A_VERSION,
    RANGES,
    configs,
    ranges_of,
    step_settings,
    versioned,
)
from export.repository.family import ALL_ROLES, TEMPLATE_NAME, Family
from export.repository.template import IN_CHECKOUT, TEMPLATE

# What a version directory takes over from the template: the Python step's modules, or what keeps an ensemble's empty
# one in git.
_VERSION_FILES = ("*.py", ".gitkeep")

# What follows from the checkpoint, or is kept: no word is lost on it.
_DECIDED = ("input", "output", "ensemble_scheduling", "version_policy")


@dataclass
class Staging:
    """An export on its way into a repository.

    Attributes:
        directories: The version directory of each model, by the model's name; they hold the template's files.
        pooling: The configs of the family's pooling and of the template's, as they are.
        identity: Of the version, to be set before the block ends; see `identity.of`.
        ranges: Of its vectors, to be set where the family has dense ones; see `ranges.written`.
        notes: What the user should know of the move, once it is done.
    """

    directories: dict[str, Path]
    pooling: tuple[ModelConfig, ...] = ()
    identity: str = ""
    ranges: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def known_ranges(self) -> str:
        """Those of the identity, where they have been measured before: measured elsewhere, their last bits differ."""
        return ranges_of(self.identity, *self.pooling)


@contextmanager
def staged(repository: Path, family: Family, version: int) -> Iterator[Staging]:
    """Yield a directory for each model's version files; when the block ends well, the family is moved into place.

    If the block raises, or the move fails, the repository is as it was: a server goes on with what is there.

    Raises:
        ExportError: the repository cannot be written, another export of this family into it is running, a model of
            another family is in the way, or a version that stays needs another configuration.
    """
    with _failures_named(repository):
        repository.mkdir(parents=True, exist_ok=True)
        _check_writable(repository, family)
        staging = _staging_directory(repository, family.name)
    with _locked(staging, family.name):
        with _failures_named(repository):
            finish(staging, repository)
        try:
            with _failures_named(repository):
                there = _there(repository, family)
                pooling = there.get(f"{family.name}_pooling", ModelConfig())
                of_pooling = pooling, _config(TEMPLATE / f"{TEMPLATE_NAME}_pooling")
                export = Staging(_lay_out(staging / "new", family, version), of_pooling)
                _check_roles(repository, family)
                others = _other_versions(repository, family, version)
                export.notes = _check_configs(configs(family, there=there), there, others, family)
            yield export
            with _failures_named(repository):
                identities = _kept(there.get(family.ensemble, ModelConfig()), IDENTITY, others)
                identities[version] = export.identity
                ranges = _kept(pooling, RANGES, others) | {version: export.ranges}
                texts = configs(family, identities=identities, there=there, ranges=ranges)
                export.notes += _tracked(texts, repository)
                for name, text in texts.items():
                    (staging / "new" / name / "config.pbtxt").write_text(text)
                    if (export.directories[name] / "model.py").exists():  # which compares it with that in its config
                        (export.directories[name] / "identity").write_text(export.identity)
                    _keep_the_rest(repository / name, staging / "new" / name)
                _commit(staging, repository)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _failures_named(repository: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(f"the model repository {repository} cannot be written: {error.strerror}") from error


def _check_writable(repository: Path, family: Family) -> None:
    """Refuse what could not be moved in the end, before anything is computed."""
    for path in (repository, *(repository / name for name in family.models())):
        if path.is_dir() and not os.access(path, os.W_OK | os.X_OK):  # a directory that is moved is written too
            raise ExportError(
                f"{path} cannot be written by this user: give another --repository, or its owner's rights"
            )


def finish(staging: Path, repository: Path) -> None:
    """Do what an export that was killed has left to do, and clear what is left of it."""
    if (staging / "commit").exists():
        _switch(staging, repository)
    for path in staging.iterdir():
        shutil.rmtree(path)


def _staging_directory(repository: Path, name: str) -> Path:
    """A hidden directory from which files can be renamed into the repository.

    It stands beside the repository, since Triton takes every directory inside for a model; inside only where the
    repository is a mount of its own, or its parent cannot be written, or can be by everybody, as /tmp: what somebody
    else puts there is not to be taken for an export that was killed. Beside it other repositories may stand, so its
    name follows the family's, behind a character that no family has; inside, where a mount may have many names, none.
    """
    repository = repository.resolve()
    beside = repository.parent
    is_open = beside.stat().st_mode & stat.S_IWOTH
    fits = _mount(beside) == _mount(repository) and os.access(beside, os.W_OK) and not is_open
    return beside / f".export-{name}~{repository.name}" if fits else repository / f".export-{name}~"


def _mount(directory: Path) -> tuple[int, str]:
    """What tells mounts apart: nothing can be renamed from one into another, and two may be of one device."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        fields = Path(f"/proc/self/fdinfo/{handle}").read_text().splitlines()
        return os.fstat(handle).st_dev, next(field for field in fields if field.startswith("mnt_id:"))
    finally:
        os.close(handle)


@contextmanager
def _locked(directory: Path, name: str) -> Iterator[None]:
    """Make the directory, unless it is there, and hold the lock that says that its export is alive."""
    handle = -1
    while handle < 0:
        with suppress(FileExistsError):
            directory.mkdir()
        try:
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # whoever cleared it thought that a killed export had left it
            continue
        except OSError as error:
            raise ExportError(
                f"{directory}: an export is prepared there, and it is not a directory ({error.strerror}): remove it"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise ExportError(f"another export of {name!r} into this repository is running; wait for it") from None
        if not _is_at(handle, directory):
            os.close(handle)
            handle = -1
    try:
        yield
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(handle), path.lstat())
    return False


def _there(repository: Path, family: Family) -> dict[str, ModelConfig]:
    """The configs of the family's models that are there already.

    Raises:
        ExportError: what is there is not the family's.
    """
    found = {}
    for name in family.models():
        path = repository / name
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise ExportError(f"{path} is a link or a file, and an export replaces directories only: remove it first")
        if path.is_dir():
            found[name] = _config(path)
    for name, config in found.items():
        owner = _owner(name, config, found, family)
        if owner != family.name:
            whose = f"a model of the family {owner!r}" if owner else "a model that is not this family's"
            raise ExportError(
                f"{repository / name} is {whose}, and {family.name!r} would replace it: choose another --name"
            )
    return found


def _config(model: Path) -> ModelConfig:
    """The model's config.pbtxt; an empty one where it is absent or damaged."""
    try:
        return text_format.Parse((model / "config.pbtxt").read_text(), ModelConfig())
    except (OSError, ValueError, text_format.ParseError):
        return ModelConfig()


def _owner(name: str, config: ModelConfig, found: Mapping[str, ModelConfig], family: Family) -> str | None:
    """The family that a model belongs to, as far as can be told; None for a model that is not of this project."""
    steps = config.ensemble_scheduling.step
    if steps:
        first = steps[0].model_name
        return first.removesuffix("_tokenizer") if first.endswith("_tokenizer") else None
    if name == family.ensemble:
        return None  # which this is not
    ensemble = found.get(family.ensemble, ModelConfig())
    if any(step.model_name == name for step in ensemble.ensemble_scheduling.step):
        return family.name
    written = any(key == "family" or key.startswith(IDENTITY) for key in config.parameters)
    return family.name if written else None


def _lay_out(new: Path, family: Family, version: int) -> dict[str, Path]:
    """Make every model's directory: warm-up data and a version directory, from the template."""
    directories = {}
    for name, origin in family.models().items():
        target = new / name / str(version)
        target.mkdir(parents=True)
        source = TEMPLATE / origin
        for pattern in _VERSION_FILES:
            for file in (source / "1").glob(pattern):
                shutil.copy(file, target)
        if (source / "warmup").exists():
            shutil.copytree(source / "warmup", target.parent / "warmup")
        directories[name] = target
    return directories


def _check_roles(repository: Path, family: Family) -> None:
    """Refuses a family that would leave a model behind of the one that it replaces."""
    left = [family.name + role for role in ALL_ROLES if role not in family.roles]
    left = [name for name in left if (repository / name).exists()]
    if left:
        raise ExportError(
            f"{family.name!r} in {repository} is a family of another kind, with {left[0]}, which this checkpoint has "
            f"not: choose another --name, or remove {', '.join(family.name + role for role in ALL_ROLES)} first"
        )


def _other_versions(repository: Path, family: Family, version: int) -> list[int]:
    """The versions that stay beside the one that is exported, the lowest first."""
    found = {
        int(path.name)
        for name in family.models()
        for path in (repository / name).glob("[1-9]*")
        if path.name.isdecimal() and path.is_dir()
    }
    return sorted(found - {version})


def _kept(config: ModelConfig, what: str, versions: list[int]) -> dict[int, str]:
    """What a config has of the versions that stay."""
    return {version: value for version, value in versioned(config, what).items() if version in versions}


def _check_configs(
    texts: Mapping[str, str], there: Mapping[str, ModelConfig], others: list[int], family: Family
) -> list[str]:
    """Return a note for each config that said something else, an operator's edits perhaps, and is replaced.

    Raises:
        ExportError: a version stays that needs what would be replaced: Triton has one config.pbtxt, settings included,
            for all versions of a model.
    """
    decided = {*_DECIDED, *(f"parameter {key}" for key in step_settings(family))}
    notes = []
    for name, text in texts.items():
        old = _compared(there.get(name, ModelConfig()))
        changed = _changed(old, _compared(text_format.Parse(text, ModelConfig()))) if old.name else []
        if changed and others:
            raise ExportError(
                f"version {others[-1]} of {family.name!r} stays beside this one, and Triton has one config.pbtxt for "
                f"both; that of {name} would change in {', '.join(changed)}: choose another --name, or remove the "
                "directories of that version first"
            )
        lost = [what for what in changed if what not in decided]
        if lost:
            notes.append(f"{name}/config.pbtxt said something else of {', '.join(lost)}; that is replaced")
    return notes


def _compared(config: ModelConfig) -> ModelConfig:
    """The config without what is of one version, or stands there for clients: older exports say it in the tokenizer."""
    copy = ModelConfig()
    copy.CopyFrom(config)
    for_clients = FOR_CLIENTS if config.platform == "ensemble" else ()
    for key in [key for key in copy.parameters if key.startswith(OF_A_VERSION) or key in for_clients]:
        del copy.parameters[key]
    return copy


def _changed(old: ModelConfig, new: ModelConfig) -> list[str]:
    """The fields in which two configs differ, parameters each by its name."""
    fields = {descriptor.name for config in (old, new) for descriptor, _ in config.ListFields()}
    changed = sorted(name for name in fields - {"parameters"} if getattr(old, name) != getattr(new, name))
    before, after = ({key: value.string_value for key, value in config.parameters.items()} for config in (old, new))
    keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return changed + [f"parameter {key}" for key in keys]


def _tracked(texts: Mapping[str, str], repository: Path) -> list[str]:
    """A note where the export rewrites the committed template itself."""
    paths = {TEMPLATE / name / "config.pbtxt": text for name, text in texts.items()}
    at_home = IN_CHECKOUT and repository.resolve() == TEMPLATE
    if at_home and any(p.exists() and p.read_text() != text for p, text in paths.items()):
        return ["this replaces the default model, whose configuration git tracks: `make model` brings it back"]
    return []


def _keep_the_rest(there: Path, new: Path) -> None:
    """Links what a model's directory has besides what is exported: other versions, and an operator's own files."""
    if there.is_dir():
        for entry in there.iterdir():
            target = new / entry.name
            if not target.exists():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.copytree(entry, target, symlinks=True, copy_function=_link)
                elif entry.name != "config.pbtxt":
                    _link(entry, target)


def _link(source: os.PathLike[str] | str, target: os.PathLike[str] | str) -> None:
    """A second name for a file, or a copy of it where the file system has no such thing."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _commit(staging: Path, repository: Path) -> None:
    (staging / "new").rename(staging / "commit")
    try:
        _switch(staging, repository)
    except BaseException:
        (staging / "commit").rename(staging / "new")
        raise


def _switch(staging: Path, repository: Path) -> None:
    """Put the models of `commit` in the places of the old ones, which go to `old`; undone if it fails.

    Killed anywhere, it can be called again. What a family's ensembles are called is shorter than what its steps are, so
    that in the order of length the ensembles go first and come last.
    """
    commit, old = staging / "commit", staging / "old"
    old.mkdir(exist_ok=True)
    names = sorted((path.name for path in commit.iterdir()), key=len)
    undo: list[tuple[Path, Path]] = []
    try:
        for name in names:
            if (repository / name).exists():
                _rename(repository / name, old / name, undo)
        for name in reversed(names):
            _rename(commit / name, repository / name, undo)
    except BaseException:
        for before, now in reversed(undo):
            now.rename(before)
        raise


def _rename(source: Path, target: Path, undo: list[tuple[Path, Path]]) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # In a container, a directory of its image: overlayfs gives it no other name. Killed here, it is done again.
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, symlinks=True)
        shutil.rmtree(source)
    undo.append((source, target))
