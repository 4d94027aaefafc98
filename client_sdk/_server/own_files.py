"""The files that a server makes on this machine: their places, and when those of a server that was killed may go.

Everything that a server makes has its name, and a file with that name is locked for as long as the guard, tritonserver
or a step lives (see `_server.guard`). The kernel gives the lock back whatever ends them, and tells it across containers
that share /dev/shm, where numbers of processes say nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from client_sdk._errors import ServerStartError

NAME_PREFIX = "bert-on-triton-"
SHARED_MEMORY = Path("/dev/shm")
_LOCK = ".lock"
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


def is_plain(path: Path) -> bool:
    """Whether a shell takes `path` for one word, as it is: Triton's Python backend does not quote paths."""
    return _PLAIN.fullmatch(str(path)) is not None


def temporary_directory(prefix: str) -> Path:
    """A new directory for this user alone, with a plain path. Raises ServerStartError if there is no place for one."""
    for place in _temporary_places():
        if is_plain(place) and os.access(place, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    tried = ", ".join(repr(str(place)) for place in _temporary_places())
    raise ServerStartError(
        f"there is no directory for temporary files whose path has letters, digits, and ._-/ only (tried: {tried}): "
        "set TMPDIR to one"
    )


def lock_path(name: str) -> Path:
    """The file that is locked while anything of the server called `name` lives."""
    return SHARED_MEMORY / f"{name}{_LOCK}"


def remove_leftovers() -> None:
    """Remove what servers of this user have left of which nothing lives any more."""
    for lock in SHARED_MEMORY.glob(f"{NAME_PREFIX}*{_LOCK}"):
        # Others may do the same at this time, and then there is nothing left to do.
        with contextlib.suppress(OSError):
            if lock.lstat().st_uid == os.geteuid():
                _remove_if_dead(lock)


def _temporary_places() -> list[Path]:
    return [Path(tempfile.gettempdir()).absolute(), Path("/tmp"), Path("/var/tmp"), SHARED_MEMORY]


def _remove_if_dead(lock: Path) -> None:
    import fcntl  # here, since Windows has none, and clients run there

    descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        name = lock.name.removesuffix(_LOCK)
        for place in _temporary_places():
            for path in place.glob(f"{name}-*"):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
