"""How many threads compute: what the operator says, else the cores that this process may use."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

VARIABLE = "BERT_ENCODER_THREADS"
MOST_THREADS = 1024


def threads(exported: int, environment: Mapping[str, str] = os.environ, process: Path = Path("/proc/self")) -> int:
    """The number of threads: the environment's, else that of the export, else a thread a core; 0 leaves it open.

    Raises:
        ValueError: the environment says something else than a number of threads.
    """
    given = environment.get(VARIABLE, "").strip() or "0"
    if not (given.isascii() and given.isdigit() and len(given) < 6 and int(given) <= MOST_THREADS):
        raise ValueError(
            f"{VARIABLE} is {given[:40]!r}; it takes a number of threads up to {MOST_THREADS}, or 0 for one a core"
        )
    return int(given) or exported or available(process)


def available(process: Path = Path("/proc/self")) -> int:
    """The cores that this process may use, by its affinity and by the quotas of its control groups.

    Of a quota of 1.5 cores one is used. A process that asks for more than its quota is stopped until the next period,
    and all the steps of a server share the quota: what is left keeps the others going.
    """
    return max(1, math.floor(min(len(os.sched_getaffinity(0)), quota(process))))


def quota(process: Path = Path("/proc/self")) -> float:
    """The least quota, in cores, of the process's control groups and those above them; infinite where there is none."""
    quotas = [math.inf]
    for directory in _groups(process):
        quotas.append(_ratio(_words(directory / "cpu.max")))
        v1 = [_words(directory / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        quotas.append(_ratio([word for words in v1 for word in words[:1]]))
    return min(quotas)


def _groups(process: Path) -> Iterator[Path]:
    """The directories of the control groups that may limit the process, from its own up to the root that is mounted."""
    for line in _lines(process / "mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = (after.split() + [""] * 3)[:3]
        if kind != "cgroup2" and not (kind == "cgroup" and "cpu" in options.split(",")):
            continue
        root, place = before.split()[3:5]
        mount = Path(place.replace("\\040", " "))
        path = _path(process, kind)
        # In a container the mount may show a part of the tree, of which `root` is the name outside.
        below = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path(".")
        directory = mount / below
        yield directory
        while directory != mount:
            directory = directory.parent
            yield directory


def _path(process: Path, kind: str) -> str:
    """The control group of the process, in the tree of version 2 or in that of version 1's cpu."""
    for line in _lines(process / "cgroup"):
        number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if (number == "0" and not controllers) if kind == "cgroup2" else "cpu" in controllers.split(","):
            return path or "/"
    return "/"


def _ratio(words: list[str]) -> float:
    """Quota / period, both in microseconds; infinite where there is no limit ("max", or -1) or no such file."""
    try:
        limit, period = (int(word) for word in words)
    except ValueError:
        return math.inf
    return limit / period if limit > 0 and period > 0 else math.inf


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
