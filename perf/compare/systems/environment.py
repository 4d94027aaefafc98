"""A virtual environment of its own for each peer, made once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perf.failure import Failure

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".venv-peers"

# What the worker needs beside them, in every environment.
_OF_THE_WORKER = ("psutil==7.2.2",)

_STAMP = "installed"
_LOG_LINES = 5


class PeerAbsent(Failure):
    """A peer cannot be set up, started or checked here; the message says why."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment in .venv-peers.

    Attributes:
        name: Of its folder.
        requirements: Exact versions, as pip takes them. Those that are left out follow from these.
        version: The Python it needs, such as "3.7"; None for the one that runs this.
        no_deps: Installed last, without what they ask for.
    """

    name: str
    requirements: tuple[str, ...]
    version: str | None = None
    no_deps: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where it is."""
        return FOLDER / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def is_ready(self) -> bool:
        """Whether all of it is installed, as it stands here."""
        stamp = self.folder / _STAMP
        return stamp.exists() and stamp.read_text() == self._fingerprint()

    def require(self) -> None:
        """Raise PeerAbsent, with what to do, unless it is ready."""
        if not self.is_ready:
            raise PeerAbsent(f"not set up: python -m perf compare --setup (environment {self.name})")

    def set_up(self) -> None:
        """Make it, unless it is ready.

        Raises:
            PeerAbsent: there is no such Python here, or pip failed.
        """
        if self.is_ready:
            return
        python = find_python(self.version)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(exist_ok=True)
        run([python, "-m", "venv", self.folder])
        pip = [self.python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
        run([*pip, *self.requirements, *_OF_THE_WORKER])
        if self.no_deps:
            run([*pip, "--no-deps", *self.no_deps])
        (self.folder / _STAMP).write_text(self._fingerprint())

    def packages(self) -> dict[str, str]:
        """The version of every package in it."""
        code = (
            "import sys; sys.path[:0] = sys.argv[1:]\n"
            "try: from importlib.metadata import distributions\n"
            "except ImportError: from importlib_metadata import distributions\n"
            "for d in distributions(): print(d.metadata['Name'], d.version)"
        )
        lines = run([self.python, "-c", code]).splitlines()
        return {name.lower().replace("_", "-"): version for name, version in (line.split() for line in lines)}

    def _fingerprint(self) -> str:
        wanted = "\n".join(
            [
                self.version or sys.version.split()[0],
                *self.requirements,
                *_OF_THE_WORKER,
                "--no-deps",
                *self.no_deps,
            ]
        )
        return hashlib.sha256(wanted.encode()).hexdigest()


def find_python(version: str | None) -> Path:
    """The interpreter of a version: on PATH, or of pyenv. Raises PeerAbsent if there is none."""
    if version is None:
        return Path(sys.executable)
    on_path = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for python in ([Path(on_path)] if on_path else []) + sorted(pyenv.glob(f"{version}.*/bin/python")):
        # What is on PATH may be pyenv's shim, which fails where this version is not the chosen one.
        if subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:
            return python
    raise PeerAbsent(f"it needs Python {version}: there is no python{version} on PATH, and none in {pyenv}")


def run(command: Sequence[str | Path], **options: object) -> str:
    """Run a command and return what it prints. Raises PeerAbsent with the end of what it said if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-_LOG_LINES:]
        raise PeerAbsent(f"{Path(command[0]).name} {' '.join(map(str, command[1:4]))} ... failed: {' / '.join(said)}")
    return str(done.stdout)
