"""What a server and its children cost: processor time and memory, from /proc. Linux."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def children() -> dict[int, list[int]]:
    """The children of every process that has some."""
    found = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            found[int(fields[1])].append(int(entry.name))
    return found


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    below = children()
    found = [root]
    for pid in found:  # grows as it goes
        found += below.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """Processor time that a process and its descendants have used, in seconds, over all cores."""
    return sum(sum(map(int, fields[11:13])) for pid in tree(root) if (fields := _stat(pid))) / _TICKS


def memory_mb(root: int) -> float:
    """Memory of a process and its descendants, in MB; what they share is counted once."""
    return sum(_proportional_kb(pid) for pid in tree(root)) * 1024 / 1e6


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold blanks; empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _proportional_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
