"""The processes of a running tritonserver, from Linux's /proc: which of its Python steps have died, and who computes.

Triton's Python backend runs each instance of a step in a process of its own, and neither notices one that dies nor
starts another: its requests fail from then on, while the server goes on calling itself ready.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

from client_sdk._server.guard import children_of

_STEP_PROGRAM = "triton_python_b"  # as much of triton_python_backend_stub as a process's name holds
_RESCAN_SECONDS = 10.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class _Stat(NamedTuple):
    name: str
    state: str
    parent: int
    cpu_seconds: float


class ServerProcesses:
    """Those below one guard. Only processes that are known are looked at each time; new ones are looked for rarely."""

    def __init__(self, guard: int, *, models_may_go: bool) -> None:
        """Looks for those that run now; `models_may_go`: a step that is gone may have been unloaded."""
        self._models_may_go = models_may_go
        self._server = next(iter(children_of(guard)), None)
        self._steps: dict[int, str] = {}  # process -> its model
        self._dead_before: set[int] = set()
        self._scanned_at = 0.0
        self._scan()

    def dead_steps(self) -> list[str]:
        """The models of those Python steps that have died; each process must be found so in two calls."""
        if time.monotonic() - self._scanned_at > _RESCAN_SECONDS:
            self._scan()
        dead = set()
        for process in list(self._steps):
            stat = _stat(process)
            if stat is None or stat.parent != self._server:
                if self._models_may_go:
                    del self._steps[process]
                else:
                    dead.add(process)
            elif stat.state == "Z":  # What is unloaded is so too, for a moment.
                dead.add(process)
        certain = dead & self._dead_before
        self._dead_before = dead
        return sorted({self._steps[process] for process in certain})

    def cpu_seconds(self) -> float:
        """Processor time that the server and its steps have used, in seconds."""
        stats = map(_stat, [*([self._server] if self._server else []), *self._steps])
        return sum(stat.cpu_seconds for stat in stats if stat)

    def hide_argument(self, secret: str) -> bool:
        """Overwrites `secret` in the server's list of arguments; False if that cannot be done.

        To be called when the server has read them. It is what programs do to their own passwords, from outside.
        """
        if self._server is None:
            return False
        try:
            fields = Path(f"/proc/{self._server}/stat").read_text().rpartition(")")[2].split()
            start, end = int(fields[45]), int(fields[46])
            with open(f"/proc/{self._server}/mem", "r+b", buffering=0) as memory:
                memory.seek(start)
                arguments = memory.read(end - start)
                hidden = arguments.replace(secret.encode(), b"*" * len(secret))
                memory.seek(start)
                memory.write(hidden)
            return secret.encode() not in Path(f"/proc/{self._server}/cmdline").read_bytes()
        except (OSError, IndexError, ValueError):
            return False

    def _scan(self) -> None:
        self._scanned_at = time.monotonic()
        for process in children_of(self._server) if self._server else ():
            stat = _stat(process)
            if process not in self._steps and stat and stat.name == _STEP_PROGRAM:
                self._steps[process] = _model_of(process)


def _stat(process: int) -> _Stat | None:
    """None if there is no such process. Its name, in brackets, may hold anything."""
    with contextlib.suppress(OSError):
        before, _, after = Path(f"/proc/{process}/stat").read_text().rpartition(")")
        fields = after.split()
        ticks = int(fields[11]) + int(fields[12])
        return _Stat(before.partition("(")[2], fields[0], int(fields[1]), ticks / _TICKS_PER_SECOND)
    return None


def _model_of(process: int) -> str:
    """The model of a step: its first argument is .../MODEL/VERSION/model.py."""
    with contextlib.suppress(OSError):
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        if len(arguments) > 1:
            return Path(os.fsdecode(arguments[1])).parent.parent.name
    return "an unknown model"
