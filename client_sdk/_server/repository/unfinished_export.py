"""What an export that was killed has left beside a model repository, ended before a server reads it.

An export prepares a family in a directory `.export-FAMILY~REPOSITORY` beside the repository or, where that is the root
of a volume or everybody may write beside it, as in /tmp, in `.export-FAMILY~` inside it, and holds a lock on it. Once
the directory has a `commit`, the export is decided, and each model in it takes the place of the one of its name.
Ensembles, whose names their steps' begin with, go first and come last, so that whoever is killed here leaves no mixture
of two exports either.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path

from client_sdk._errors import ServerStartError

_PATIENCE_SECONDS = 10.0
"""For an export that moves its models, which takes milliseconds."""


def finish_exports(repository: Path) -> None:
    """End what killed exports into `repository` have begun; those that are still preparing are left alone.

    Raises:
        ServerStartError: an export goes on moving its models, or what a killed one left cannot be moved.
    """
    repository = repository.resolve()
    if not repository.is_dir():
        return  # as whoever reads it says
    deadline = time.monotonic() + _PATIENCE_SECONDS
    places = {repository: ""}
    if not repository.parent.stat().st_mode & stat.S_IWOTH:
        places[repository.parent] = repository.name
    for place, owner in places.items():
        for staging in sorted(place.glob(".export-*~*")):
            if staging.name.partition("~")[2] != owner:  # another repository's
                continue
            while not _is_finished(staging, repository):
                if time.monotonic() > deadline:
                    raise ServerStartError(f"an export is moving its models into {repository}: try again")
                time.sleep(0.02)


def _is_finished(staging: Path, repository: Path) -> bool:
    """End what has been left in `staging`; False if its own export is alive, and at it."""
    import fcntl  # here, since Windows has none, and clients run there

    try:
        handle = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # gone, or no directory of an export
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _move(staging / "commit", staging / "old", repository)
        shutil.rmtree(staging, ignore_errors=True)
        return True
    except BlockingIOError:
        return not (staging / "commit").exists()
    except OSError as error:
        raise ServerStartError(
            f"{staging} holds an export that was killed, and cannot be moved into {repository}: {error.strerror}"
        ) from error
    finally:
        os.close(handle)


def _move(commit: Path, old: Path, repository: Path) -> None:
    if not commit.exists():
        return
    old.mkdir(exist_ok=True)
    names = sorted(os.listdir(commit), key=len)
    for name in names:
        with suppress(FileNotFoundError):
            (repository / name).rename(old / name)
    for name in reversed(names):
        (commit / name).rename(repository / name)
