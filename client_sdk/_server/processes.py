"""The processes of a running tritonserver: which of its Python steps have died, and who computes.

Triton's Python backend runs each instance of a step in a process of its own, and neither notices one that dies nor
starts another: its requests fail from then on, while the server goes on calling itself ready.
"""

from __future__ import annotations

import time
from pathlib import Path

import psutil

_STEP_PROGRAM = "triton_python_b"  # how the name of triton_python_backend_stub begins, of which Linux keeps 15 letters
_RESCAN_SECONDS = 10.0


class ServerProcesses:
    """Those below one guard. Only processes that are known are looked at each time; new ones are looked for rarely."""

    def __init__(self, guard: int, *, models_may_go: bool) -> None:
        """Look for those that run now; `models_may_go`: a step that is gone may have been unloaded."""
        self._models_may_go = models_may_go
        self._server = next(iter(_children(guard)), None)
        self._steps: dict[psutil.Process, str] = {}  # process -> its model
        self._dead_before: set[psutil.Process] = set()
        self._scanned_at = 0.0
        self._scan()

    def dead_steps(self) -> list[str]:
        """The models of those Python steps that have died; each process must be found so in two calls."""
        if time.monotonic() - self._scanned_at > _RESCAN_SECONDS:
            self._scan()
        dead = set()
        for process in list(self._steps):
            if not self._is_of_server(process):
                if self._models_may_go:
                    del self._steps[process]
                else:
                    dead.add(process)
            elif _is_zombie(process):  # What is unloaded is so too, for a moment.
                dead.add(process)
        certain = dead & self._dead_before
        self._dead_before = dead
        return sorted({self._steps[process] for process in certain})

    def cpu_seconds(self) -> float:
        """Processor time that the server and its steps have used, in seconds."""
        return sum(map(_cpu_seconds, [*([self._server] if self._server else []), *self._steps]))

    def hide_argument(self, secret: str) -> bool:
        """Overwrite `secret` in the server's list of arguments; False if that cannot be done.

        To be called when the server has read them. It is what programs do to their own passwords, from outside.
        """
        if self._server is None:
            return False
        try:
            fields = Path(f"/proc/{self._server.pid}/stat").read_text().rpartition(")")[2].split()
            start, end = int(fields[45]), int(fields[46])
            with open(f"/proc/{self._server.pid}/mem", "r+b", buffering=0) as memory:
                memory.seek(start)
                arguments = memory.read(end - start)
                hidden = arguments.replace(secret.encode(), b"*" * len(secret))
                memory.seek(start)
                memory.write(hidden)
            return secret.encode() not in Path(f"/proc/{self._server.pid}/cmdline").read_bytes()
        except (OSError, IndexError, ValueError):
            return False

    def _scan(self) -> None:
        self._scanned_at = time.monotonic()
        for process in _children(self._server.pid) if self._server else ():
            if process not in self._steps and _name(process).startswith(_STEP_PROGRAM):
                self._steps[process] = _model_of(process)

    def _is_of_server(self, process: psutil.Process) -> bool:
        """Whether it runs, or ran until now, below the server; what another process has of its number does not."""
        try:
            return self._server is not None and process.is_running() and process.ppid() == self._server.pid
        except psutil.NoSuchProcess:
            return False


def _children(process: int) -> list[psutil.Process]:
    try:
        return psutil.Process(process).children()
    except psutil.NoSuchProcess:
        return []


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


def _model_of(process: psutil.Process) -> str:
    """The model of a step: its first argument is .../MODEL/VERSION/model.py."""
    try:
        return Path(process.cmdline()[1]).parent.parent.name
    except (psutil.Error, IndexError):
        return "an unknown model"
