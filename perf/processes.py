"""The processes of a measurement: which belong together, what they hold and what they use. Linux."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from perf.failure import Failure

MIB = 2**20


def descendants(ancestor: int) -> list[int]:
    """All processes below `ancestor`, the nearest first; none if it has ended."""
    try:
        return [process.pid for process in psutil.Process(ancestor).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def server_processes(process: int) -> dict[int, str]:
    """The tritonserver and Python-backend stubs at or below `process`, by id, with a name for a table."""
    named = {}
    for candidate in [process, *descendants(process)]:
        name = _server_name(_command(candidate))
        if name:
            named[candidate] = name
    return named


def measured_processes(server: int | None) -> dict[int, str]:
    """Those of the server whose process is named, or of the one that this process has started.

    Raises:
        Failure: there are none.
    """
    found = server_processes(server or os.getpid())
    if not found:
        raise Failure(f"process {server} is no tritonserver, or belongs to another user")
    return found


def own_bytes(process: int) -> int:
    """Bytes that a process alone holds (its USS), 0 if it has ended.

    Without what it shares with others, such as shared memory and the code of libraries.
    """
    try:
        return int(psutil.Process(process).memory_full_info().uss)
    except psutil.Error:
        return 0


def proportional_bytes(process: int) -> int:
    """Bytes of a process and its descendants; what they share is counted once."""
    total = 0
    for member in [process, *descendants(process)]:
        try:
            total += psutil.Process(member).memory_full_info().pss
        except psutil.Error:  # it has ended meanwhile
            continue
    return total


def cpu_seconds(process: int) -> float:
    """Processor time that a process and its descendants have used, in seconds, over all cores."""
    total = 0.0
    for member in [process, *descendants(process)]:
        try:
            times = psutil.Process(member).cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def shared_files(processes: Iterable[int]) -> int:
    """The number of shared-memory files that the processes map."""
    return len(set().union(*map(_mapped_shared_memory, processes)))


def shared_bytes(processes: Iterable[int]) -> int:
    """Bytes of the shared-memory files that the processes map, each file counted once, as much as is in use."""
    used: dict[tuple[int, int], int] = {}
    for process in processes:
        for path in _mapped_shared_memory(process):
            try:
                status = os.stat(path)
            except OSError:
                continue
            used[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(used.values())


def _server_name(command: list[str]) -> str | None:
    program = Path(command[0]).name if command else ""
    if program == "tritonserver":
        return "tritonserver"
    if program == "triton_python_backend_stub":
        # Its first argument is .../MODEL/VERSION/model.py.
        return Path(command[1]).parent.parent.name if len(command) > 1 else program
    return None


def _command(process: int) -> list[str]:
    try:
        return psutil.Process(process).cmdline()
    except psutil.Error:
        return []


def _mapped_shared_memory(process: int) -> set[str]:
    """Paths, from the list of maps itself: psutil looks up the size of each too, which takes many times as long."""
    try:
        lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    except OSError:
        return set()
    return {
        words[5] for words in (line.split(maxsplit=5) for line in lines) if len(words) > 5 and "/dev/shm/" in words[5]
    }
