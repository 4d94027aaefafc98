"""What a figure was measured on and with: every result file begins with it."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("nvidia-pytriton", "onnxruntime", "tritonclient", "tokenizers", "numpy")


def describe() -> dict[str, str | int | float]:
    """The machine, the versions, the command and the time, ready for JSON."""
    return {
        "cpu": cpu_model(),
        "instructions": instruction_set(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}".strip(),
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := _version(name))},
        "commit": _commit(),
        "command": command_line(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def summary(machine: dict[str, str | int | float]) -> str:
    """One line of it, for under a picture or over a table."""
    return f"{machine['cpu']}, {machine['cores']} cores · {machine['date']} · commit {machine['commit']}"


def warn_if_busy(machine: dict[str, str | int | float]) -> None:
    """Says so on standard error if other work ran on the machine, which makes every figure too low."""
    load, cores = float(machine["load_average_before"]), int(machine["cores"])
    if load > 0.3 * cores:
        print(
            f"note: the machine is not quiet (load average {load:g} on {cores} cores); figures will be too low",
            file=sys.stderr,
        )


def cpu_model() -> str:
    """The processor's name."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def instruction_set() -> str:
    """The widest vectors that it computes with; empty where that is not known."""
    try:
        flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
    except OSError:
        return ""
    return next(
        (name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON")) if flag in flags), ""
    )


def command_line() -> str:
    """The command that runs, as it can be typed again."""
    return f"python -m perf {shlex.join(sys.argv[1:])}".strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    """The commit that is checked out, with a plus if files differ from it; `unknown` outside a checkout."""
    root = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
