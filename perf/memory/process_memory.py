"""How much memory the processes of a measurement hold, from Linux's /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MIB = 2**20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


def parents() -> dict[int, int]:
    """Process -> its parent, of all that can be seen."""
    found = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                # The name, in brackets, may hold anything.
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended meanwhile
                continue
    return found


def descendants(ancestor: int) -> list[int]:
    """All processes below `ancestor`, the nearest first."""
    children: dict[int, list[int]] = {}
    for process, parent in parents().items():
        children.setdefault(parent, []).append(process)

    def below(process: int) -> Iterator[int]:
        for child in sorted(children.get(process, [])):
            yield child
            yield from below(child)

    return list(below(ancestor))


def server_processes(process: int) -> dict[int, str]:
    """The tritonserver and Python-backend stubs at or below `process`, by id, with a name for a table."""
    named = {}
    for candidate in [process, *descendants(process)]:
        name = _server_name(_command(candidate))
        if name:
            named[candidate] = name
    return named


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
        return [
            word.decode(errors="replace") for word in (_PROC / str(process) / "cmdline").read_bytes().split(b"\0")[:2]
        ]
    except OSError:
        return []


def own_bytes(process: int) -> int:
    """Resident bytes of a process, 0 if it has ended.

    Without its shared memory, which would be counted once for each process that maps it.
    """
    try:
        _, resident, _, *_ = map(int, (_PROC / str(process) / "statm").read_text().split())
        status = (_PROC / str(process) / "status").read_text()
    except OSError:
        return 0
    shared = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssShmem:")), 0)
    return resident * _PAGE - shared * 1024


def shared_files(processes: list[int]) -> int:
    """The number of shared-memory files that the processes map."""
    return len(set().union(*map(_mapped_shared_memory, processes)))


def shared_bytes(processes: list[int]) -> int:
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


def _mapped_shared_memory(process: int) -> set[str]:
    try:
        lines = (_PROC / str(process) / "maps").read_text().splitlines()
    except OSError:
        return set()
    return {
        words[5] for words in (line.split(maxsplit=5) for line in lines) if len(words) > 5 and "/dev/shm/" in words[5]
    }
