"""What each process of a job holds and uses while it runs. Linux."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType

import psutil

from perf.memory.samples import Samples
from perf.processes import MIB, server_processes

ALL = "the job, all"

_ROLES = {
    "ray::MapWorker": "encodes",
    "ray::_Counting": "tally",
    "ray::_": "Ray's own",
    "ray::": "reads, writes",
    "raylet": "raylet",
    "gcs_server": "Ray's gcs_server",
}
"""What a process of Ray does, by the beginning of what it calls itself."""


@dataclass
class _Seen:
    """One process."""

    name: str = "Ray's own"
    mib: dict[int, float] = field(default_factory=dict)  # by the number of the look
    seconds: float = 0.0


class Watch:
    """Looks at a process and all below it, and at the server of this one, while it is entered.

    Args:
        job: Its process.
        interval: Seconds between two looks.
    """

    def __init__(self, job: int, interval: float) -> None:
        self._job = job
        self._interval = interval
        self._seen: dict[int, _Seen] = {}
        self._looks: list[float] = []
        self._together: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        started = time.monotonic()
        while True:
            self._together.append(self._look(len(self._looks)))
            self._looks.append(time.monotonic() - started)
            if self._over.wait(self._interval):
                return

    def _look(self, number: int) -> float:
        """MiB of the job's processes; what they share is counted once."""
        together = 0.0
        for pid, name in server_processes(os.getpid()).items():
            self._keep(pid, f"server: {name}", number)
        try:
            processes = [(job := psutil.Process(self._job)), *job.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0.0
        for process in processes:
            together += self._keep(process.pid, "" if process.pid != self._job else "the job", number)
        return together

    def _keep(self, pid: int, name: str, number: int) -> float:
        seen = self._seen.setdefault(pid, _Seen())
        try:
            process = psutil.Process(pid)
            memory, times = process.memory_full_info(), process.cpu_times()
            role = name or _role(process.cmdline())
        except psutil.Error:  # it has ended meanwhile
            return 0.0
        seen.name = role or seen.name
        seen.mib[number] = memory.uss / MIB
        seen.seconds = times.user + times.system
        return float(memory.pss) / MIB

    @property
    def processes(self) -> list[int]:
        """All that have been seen."""
        return list(self._seen)

    def samples(self) -> Samples:
        """What each has held by itself, and all of the job together; several of a kind have numbers."""
        found = Samples(list(self._looks), {ALL: list(self._together)})
        for name, seen in self._named():
            found.mib[name] = [seen.mib.get(number, 0.0) for number in range(len(self._looks))]
        return found

    def processor_seconds(self) -> dict[str, float]:
        """What each has used."""
        return {name: seen.seconds for name, seen in self._named()}

    def _named(self) -> list[tuple[str, _Seen]]:
        counts = Counter(seen.name for seen in self._seen.values())
        numbers = Counter[str]()
        named = []
        for seen in self._seen.values():
            numbers[seen.name] += 1
            named.append((f"{seen.name} {numbers[seen.name]}" if counts[seen.name] > 1 else seen.name, seen))
        return named


def while_encoding(samples: Samples) -> Samples:
    """Those of the time in which a process encodes, without its first quarter."""
    series = [values for name, values in samples.mib.items() if name.startswith(_ROLES["ray::MapWorker"])]
    looks = [number for number in range(len(samples.seconds)) if any(values[number] for values in series)]
    kept = looks[len(looks) // 4 :] or list(range(len(samples.seconds)))
    return Samples(
        [samples.seconds[number] for number in kept],
        {name: [values[number] for number in kept] for name, values in samples.mib.items()},
    )


def _role(command: list[str]) -> str | None:
    """None where it does not say, such as one that waits for something to do."""
    first = os.path.basename(command[0]) if command else ""
    if first.startswith("ray::IDLE"):
        return None
    return next((role for beginning, role in _ROLES.items() if first.startswith(beginning)), None)
