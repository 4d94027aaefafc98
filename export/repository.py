"""Puts a family of models into a Triton model repository, all of it or nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import ExportError
from .family import TEMPLATE, Family, configs

# What a version directory takes over from the template: the Python step's modules, or what keeps an ensemble's empty
# one in git.
_VERSION_FILES = ("*.py", ".gitkeep")


@contextmanager
def staged(repository: Path, family: Family, version: int) -> Iterator[dict[str, Path]]:
    """Yields a directory for each role's version files; when the block ends well, the family is moved into place.

    What is yielded maps model names to their staged version directories, which already hold the template's files. If
    the block raises, or the move fails, the repository is as it was: a server goes on with what is there.

    Raises:
        ExportError: the repository cannot be written, or another export of this family into it is running.
    """
    try:
        repository.mkdir(parents=True, exist_ok=True)
        staging = _staging_directory(repository, family.name)
        staging.mkdir(exist_ok=True)
    except OSError as error:
        raise ExportError(f"the model repository {repository} cannot be written: {error.strerror}") from error
    with _locked(staging, family.name):
        try:
            _clear(staging)  # of what an export that was killed has left
            new = staging / "new"
            yield _fill(new, family, version)
            _move(new, repository, staging / "old")
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _staging_directory(repository: Path, name: str) -> Path:
    """A hidden directory from which files can be renamed into the repository.

    It stands beside the repository, since Triton takes every directory inside for a model; inside only where the
    repository is a mount of its own or its parent cannot be written.
    """
    repository = repository.resolve()
    beside = repository.parent
    fits = beside.stat().st_dev == repository.stat().st_dev and os.access(beside, os.W_OK)
    return (beside if fits else repository) / f".export-{repository.name}-{name}"


@contextmanager
def _locked(directory: Path, name: str) -> Iterator[None]:
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportError(f"another export of {name!r} into this repository is running; wait for it") from None
        yield
    finally:
        os.close(handle)


def _clear(directory: Path) -> None:
    for path in directory.iterdir():
        shutil.rmtree(path)


def _fill(new: Path, family: Family, version: int) -> dict[str, Path]:
    """Lays out every model's directory: config.pbtxt, warm-up data and a version directory from the template."""
    texts = configs(family)
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
        (target.parent / "config.pbtxt").write_text(texts[name])
        directories[name] = target
    return directories


def _move(new: Path, repository: Path, old: Path) -> None:
    """Renames every entry of every staged model into the repository, what was there into `old`; undone on failure."""
    undo: list[tuple[Path, Path]] = []
    try:
        for entry in sorted(new.glob("*/*")):
            target = repository / entry.relative_to(new)
            if target.exists():
                backup = old / entry.relative_to(new)
                backup.parent.mkdir(parents=True, exist_ok=True)
                target.rename(backup)
                undo.append((backup, target))
            target.parent.mkdir(exist_ok=True)
            entry.rename(target)
            undo.append((target, entry))
    except BaseException as error:
        for now, before in reversed(undo):
            now.rename(before)
        for model in new.iterdir():
            with suppress(OSError):  # not empty: it was there before
                (repository / model.name).rmdir()
        if isinstance(error, OSError):
            raise ExportError(f"the model repository {repository} cannot be written: {error.strerror}") from error
        raise
