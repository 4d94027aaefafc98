"""Finds a tritonserver on this machine, and what its kind needs to start; all other arguments are in `settings`.

Two kinds are known. NVIDIA's container has a complete one in /opt/tritonserver. The package nvidia-pytriton
has the program, its libraries and Python backends for several Pythons in one wheel, but not laid out so that
the program finds them; here they are put together, without importing the package.
"""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from client_sdk._errors import ServerStartError, TritonServerNotFound

_CONTAINER_EXECUTABLE = Path("/opt/tritonserver/bin/tritonserver")
_WHEEL_PYTHONS = ((3, 10), (3, 12))
HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Among GLIBC_TUNABLES it has glibc, from 2.35 on, ask for huge pages, which many systems give on request alone."""

INSTALL = "pip install 'bert-on-triton[server]'"
_ELSEWHERE = (
    "run tritonserver on another machine or in NVIDIA's container (nvcr.io/nvidia/tritonserver), "
    "and connect to it with client_sdk.Client"
)


@dataclass(frozen=True)
class TritonServer:
    """A tritonserver that can be started.

    Attributes:
        executable: The program.
        python_backend: Files that must stand side by side for the Python backend; empty where they do.
        library_directories: Where the dynamic loader must look, beside its own places.
    """

    executable: Path
    python_backend: tuple[Path, ...] = ()
    library_directories: tuple[Path, ...] = field(default=())

    def arguments(self, directory: Path) -> list[str]:
        """The program and the arguments it always needs; puts a wheel's backends together in `directory`.

        Their path goes through a shell, as that of the models, so `directory` has plain characters.
        """
        backends = self.executable.parent.parent / "backends"
        if self.python_backend:
            backends = directory / "backends"
            (backends / "python").mkdir(parents=True)
            for file in self.python_backend:
                (backends / "python" / file.name).symlink_to(file)
        return [str(self.executable), *([f"--backend-directory={backends}"] if backends.is_dir() else [])]

    def environment(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """The environment to start it in: `base`, where libraries and this Python are found, and settings of both."""
        environment = dict(base)
        # ONNX Runtime would call its makers, and keep a number of this machine in the home directory.
        environment["ORT_DISABLE_TELEMETRY"] = "1"
        # glibc keeps what requests gave back, up to 64 MiB in each of 8 arenas a core, unless the limit is set: then
        # it stays what it is at first, 128 KiB, see mallopt(3) on M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
        environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(128 * 1024))
        _ask_for_huge_pages(environment)
        if self.python_backend:
            # The Python backend takes the site-packages of the `python3` that it finds on PATH.
            _prepend(environment, "PATH", Path(sys.executable).parent)
        for directory in reversed(self.library_directories):
            _prepend(environment, "LD_LIBRARY_PATH", directory)
        return environment


def find_tritonserver(executable: str | os.PathLike[str] | None = None) -> TritonServer:
    """The tritonserver to start: `executable`, else the one on PATH, the container's, or nvidia-pytriton's.

    Raises:
        TritonServerNotFound: there is none; the message says where it was looked for and what to install.
        ServerStartError: nvidia-pytriton's cannot run here; the message says what it lacks.
    """
    if executable is not None:
        found = shutil.which(executable)
        if found is None:
            raise TritonServerNotFound(_why_not_executable(executable))
    else:
        candidates = ("tritonserver", _CONTAINER_EXECUTABLE, _wheel_executable())
        found = next((path for path in map(_which, candidates) if path), None)
        if found is None:
            raise TritonServerNotFound(_why_none_found())
    path = Path(found).resolve()
    return _wheel_server(path) if (path.parent.parent / "python_backend_stubs").is_dir() else TritonServer(path)


def _which(program: str | Path | None) -> str | None:
    return shutil.which(program) if program is not None else None


def _wheel_executable() -> Path | None:
    # find_spec imports nothing where the name has no dot; the package itself would start logging and more.
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "tritonserver" / "bin" / "tritonserver"


def _wheel_server(executable: Path) -> TritonServer:
    root = executable.parent.parent
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    stub = root / "python_backend_stubs" / minor / "triton_python_backend_stub"
    _check_numpy(executable)
    if not stub.is_file():
        raise ServerStartError(
            f"{executable} has no Python backend for Python {minor} (looked for {stub}): "
            f"use Python 3.10-3.12 and {INSTALL}, or {_ELSEWHERE}"
        )
    backend = root / "backends" / "python"
    libraries = root.parent.parent / "nvidia_pytriton.libs"
    return TritonServer(
        executable,
        python_backend=(backend / "libtriton_python.so", backend / "triton_python_backend_utils.py", stub),
        library_directories=(libraries, *_python_library_directories(minor)),
    )


def _check_numpy(executable: Path) -> None:
    """Raise ServerStartError unless numpy is one that the wheel's Python backend works with."""
    try:
        version = importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    if version.partition(".")[0] != "1":
        raise ServerStartError(
            f"the Python backend of {executable} works with numpy 1.26 only, and numpy {version} is "
            "installed (it stops at the first text under numpy 2): "
            f"pip install 'numpy>=1.26,<2' in Python 3.10-3.12, or {_ELSEWHERE}"
        )


def _python_library_directories(minor: str) -> tuple[Path, ...]:
    """Where Python's shared library is, which the Python backend links to; empty if the loader knows it."""
    library = f"libpython{minor}.so.1.0"
    names = ("LIBDIR", "LIBPL")
    for directory in (sysconfig.get_config_var(name) for name in names):
        if directory and (Path(directory) / library).is_file():
            return (Path(directory),)
    if ctypes.util.find_library(f"python{minor}") is None:
        raise ServerStartError(
            f"Triton's Python backend needs {library}, which is not on this machine: install Python's shared "
            f"library (Debian and Ubuntu: apt install libpython{minor}), or use a Python that has one"
        )
    return ()


def _ask_for_huge_pages(environment: dict[str, str]) -> None:
    """A network reads all of its weights for each slice, and in pages of 4 KiB waits for their addresses.

    Where the system gives none, or glibc is older, nothing changes; what the environment says of them stands.
    """
    tunables = environment.get("GLIBC_TUNABLES", "")
    if HUGE_PAGES.partition("=")[0] not in tunables:
        environment["GLIBC_TUNABLES"] = ":".join(filter(None, (tunables, HUGE_PAGES)))


def _prepend(environment: dict[str, str], name: str, directory: Path) -> None:
    rest = environment.get(name)
    environment[name] = f"{directory}{os.pathsep}{rest}" if rest else str(directory)


def _why_not_executable(executable: str | os.PathLike[str]) -> str:
    path = Path(executable)
    if path.is_dir():
        return f"tritonserver {str(path)!r} is a directory: give the program, such as {path / 'tritonserver'}"
    if path.exists():
        return f"tritonserver {str(path)!r} is not executable: chmod +x {path}"
    return f"tritonserver {str(path)!r} does not exist: give its path, or leave it out to have it looked for"


def _why_none_found() -> str:
    looked_for = (
        f"no tritonserver on this machine. Looked for: tritonserver on PATH; {_CONTAINER_EXECUTABLE}; "
        f"the package nvidia-pytriton of {sys.executable}."
    )
    problem = _wheel_problem()
    if problem:
        return f"{looked_for} {problem}; {_ELSEWHERE}"
    return f"{looked_for} Install it with: {INSTALL}"


def _wheel_problem() -> str | None:
    """Why nvidia-pytriton cannot be installed here, None if it can."""
    here = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"The package is for Linux x86-64 only, and this is {here}"
    if not _WHEEL_PYTHONS[0] <= sys.version_info[:2] <= _WHEEL_PYTHONS[1]:
        return f"The package works in Python 3.10-3.12 only (use one of them), and this is {here}"
    return None
