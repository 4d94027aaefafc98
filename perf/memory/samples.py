"""What was seen of memory over time, and the line through it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np

from perf.processes import MIB, own_bytes, shared_bytes

FLAT_SHARE = 0.02
FLAT_MIB = 4.0
CLIENT, SHARED, ALL = "client", "shared memory", "server, all"


@dataclass
class Samples:
    """What was seen: for each series as many values as there are times."""

    seconds: list[float] = field(default_factory=list)
    mib: dict[str, list[float]] = field(default_factory=dict)

    def add(self, second: float, values: dict[str, float]) -> None:
        """Take one sample; a series that is new had nothing before."""
        for name in [*self.mib, *values]:
            series = self.mib.setdefault(name, [0.0] * len(self.seconds))
            if len(series) == len(self.seconds):
                series.append(values.get(name, 0.0))
        self.seconds.append(second)


@dataclass(frozen=True)
class Trend:
    """A straight line through a series after the warm-up, in MiB."""

    first: float
    last: float
    per_minute: float
    level: float
    minutes: float

    @property
    def is_flat(self) -> bool:
        """Whether it rises by next to nothing."""
        return self.per_minute * self.minutes <= max(FLAT_MIB, FLAT_SHARE * self.level)


def trend(seconds: list[float], series: list[float], warm: float) -> Trend:
    """The line through the samples from second `warm` on; level if there are fewer than three."""
    kept = [(second, value) for second, value in zip(seconds, series, strict=True) if second >= warm]
    x, y = np.array(kept).T
    slope = float(np.polyfit(x, y, 1)[0]) if len(kept) > 2 else 0.0
    return Trend(series[0], series[-1], 60 * slope, float(y.mean()), float(x[-1] - x[0]) / 60)


def look(processes: dict[int, str]) -> dict[str, float]:
    """MiB of this process and of each of those; several instances of a step count together."""
    values = {CLIENT: own_bytes(os.getpid()) / MIB}
    for process, name in processes.items():
        values[name] = values.get(name, 0.0) + own_bytes(process) / MIB
    values[SHARED] = shared_bytes(list(processes)) / MIB
    values[ALL] = sum(value for name, value in values.items() if name != CLIENT)
    return values
