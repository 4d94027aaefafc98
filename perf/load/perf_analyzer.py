"""Finds Triton's perf_analyzer, or fetches a program of it that runs on this machine."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perf.failure import Failure
from perf.report import shown_path

# Requirement and the C library it runs on, best first. The older is in tritonclient's wheels up to 2.57; 2.51 is the
# last that runs on glibc 2.34, and from 2.48 on concurrent requests carry different texts.
WHEELS = (("perf-analyzer>=2.58", (2, 38)), ("tritonclient==2.51.0", (2, 34)))
DIFFERENT_TEXTS_SINCE = (2, 48)

# What the older needs and most machines lack; nvidia-pytriton brings both, under names with a hash in them.
_LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d*", "libcudart.so.12": "libcudart-*.so.12*"}

_VERSION = re.compile(r"Version (\d+)\.(\d+)")


@dataclass(frozen=True)
class PerfAnalyzer:
    """A perf_analyzer that runs here.

    Attributes:
        path: The program.
        version: Major and minor; (0, 0) if it does not say.
        libraries: A directory that the dynamic loader must look in.
    """

    path: Path
    version: tuple[int, int]
    libraries: Path | None = field(default=None)

    def command(self, arguments: Sequence[str]) -> str:
        """The command line to type by hand."""
        words = shlex.join([shown_path(self.path), *arguments])
        return f"LD_LIBRARY_PATH={shlex.quote(shown_path(self.libraries))} {words}" if self.libraries else words

    def run(self, arguments: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
        """Run it to its end; standard error is in the output. Raises subprocess.TimeoutExpired."""
        return _run(self.path, arguments, self.libraries, timeout)

    @property
    def note(self) -> str | None:
        """What is wrong with its figures, if something is known."""
        if (0, 0) < self.version < DIFFERENT_TEXTS_SINCE:
            return (
                f"perf_analyzer {_dotted(self.version)} gives all concurrent requests the same text, "
                f"which is easier work than a server has; take {_dotted(DIFFERENT_TEXTS_SINCE)} or later"
            )
        return None


def find_or_fetch() -> PerfAnalyzer:
    """The perf_analyzer on PATH, else the one fetched earlier, else one fetched now by pip.

    Raises:
        Failure: there is none, and none that runs here can be fetched; the message says what was tried.
    """
    on_path = shutil.which("perf_analyzer")
    if on_path:
        return _checked(Path(on_path), None)
    reasons = []
    for requirement, glibc in WHEELS:
        reason = _why_not_here(glibc)
        if reason is None:
            folder = cache_directory() / re.sub(r"[^\w.]+", "-", requirement)
            try:
                return _fetched(requirement, folder)
            except Failure as error:
                reason = str(error)
        reasons.append(f"{requirement}: {reason}")
    raise Failure(
        "no perf_analyzer on PATH, and none could be fetched ("
        + "; ".join(reasons)
        + "). NVIDIA's container nvcr.io/nvidia/tritonserver:YY.MM-py3-sdk has one"
    )


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where it is kept: in the virtual environment, else in the user's cache."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix) / "perf-analyzer"
    cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "bert-on-triton" / "perf-analyzer"


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor out of what `--version` prints; (0, 0) if they are not there."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _why_not_here(glibc: tuple[int, int]) -> str | None:
    """Why a Linux program built against `glibc` does not run here; None if it should."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"is for Linux on x86-64, and this is {platform.system()} on {platform.machine()}"
    library, found = platform.libc_ver()
    if library != "glibc" or tuple(int(part) for part in found.split(".")[:2]) < glibc:
        return f"needs glibc {_dotted(glibc)}, and this is {library or 'another C library'} {found}".rstrip()
    return None


def _fetched(requirement: str, folder: Path) -> PerfAnalyzer:
    program = folder / "perf_analyzer"
    if not program.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            unpack(_download(requirement, Path(temporary)), Path(temporary) / "ready")
            link_libraries(Path(temporary) / "ready" / "lib", _pytriton_libraries())
            if not folder.exists():
                (Path(temporary) / "ready").rename(folder)
    return _checked(program, folder / "lib")


def _download(requirement: str, folder: Path) -> Path:
    print(f"fetching perf_analyzer ({requirement}) ...", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise Failure(f"pip download failed: {lines[-1]}")
    return wheels[0]


def unpack(wheel: Path, folder: Path) -> Path:
    """Take the program out of a wheel into `folder`. Raises Failure if it is not in there."""
    with zipfile.ZipFile(wheel) as archive:
        member = next((name for name in archive.namelist() if name.endswith("/bin/perf_analyzer")), None)
        if member is None:
            raise Failure(f"{wheel.name} holds no perf_analyzer")
        folder.mkdir(parents=True)
        program = folder / "perf_analyzer"
        program.write_bytes(archive.read(member))
    program.chmod(0o755)
    return program


def link_libraries(folder: Path, source: Path | None) -> None:
    """Links in `folder` the libraries that `source` holds under hashed names, by the names a loader looks for."""
    folder.mkdir(parents=True)
    for name, pattern in _LIBRARIES.items():
        for found in sorted(source.glob(pattern)) if source else ():
            (folder / name).symlink_to(found)
            break


def _pytriton_libraries() -> Path | None:
    spec = importlib.util.find_spec("pytriton")
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]).parent / "nvidia_pytriton.libs" if places else None


def _checked(program: Path, libraries: Path | None) -> PerfAnalyzer:
    try:
        answer = _run(program, ["--version"], libraries, 60)
    except OSError as error:
        raise Failure(f"{shown_path(program)} does not run here: {error}") from None
    if "perf analyzer" not in answer.stdout.lower():
        reason = (answer.stdout.strip().splitlines() or [f"status {answer.returncode}"])[0]
        raise Failure(f"{shown_path(program)} does not run here: {reason}")
    return PerfAnalyzer(program, parse_version(answer.stdout), libraries)


def _run(
    program: Path, arguments: Sequence[str], libraries: Path | None, timeout: float
) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if libraries:
        rest = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = f"{libraries}{os.pathsep}{rest}" if rest else str(libraries)
    return subprocess.run(
        [str(program), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
    )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
