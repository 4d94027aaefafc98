"""What perf_analyzer prints and writes, read back."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_SECTION = re.compile(r"^Request concurrency: (\d+)", re.MULTILINE)
_PASS = re.compile(r"Pass \[\d+\] throughput: ([\d.]+) infer/sec")
_REQUESTS = re.compile(r"Request count: (\d+)")
_STEP = re.compile(
    r"^ *(?P<model>\S+), version: \S*\n"
    r".*?Inference count: (?P<texts>\d+)\n"
    r".*?Execution count: (?P<executions>\d+)\n"
    r".*?overhead (?P<overhead>\d+) usec \+ queue (?P<queue>\d+) usec"
    r" \+ compute input (?P<input>\d+) usec \+ compute infer (?P<infer>\d+) usec"
    r" \+ compute output (?P<output>\d+) usec",
    re.MULTILINE | re.DOTALL,
)

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Step:
    """One composing model, per request, in milliseconds."""

    model: str
    queue: float
    compute: float
    """Input, network and output together."""
    texts_per_execution: float


@dataclass(frozen=True)
class Measurement:
    """One concurrency of one run."""

    concurrency: int
    texts_per_second: float
    latency: Mapping[int, float]
    """Percentile -> milliseconds, for 50, 90, 95 and 99."""
    mean_latency: float
    requests: int
    """That were measured; a percentile of few says little."""
    windows: tuple[float, ...]
    """Texts per second of each measurement window."""
    steps: tuple[Step, ...]

    @property
    def spread(self) -> float:
        """How far apart the windows were: (most - least) / mean, 0 for a single one."""
        if len(self.windows) < 2 or not self.texts_per_second:
            return 0.0
        return (max(self.windows) - min(self.windows)) / self.texts_per_second


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of perf_analyzer's report, by concurrency; it may hold other tables behind an empty line."""
    first_table, _, _ = path.read_text(encoding="utf-8").strip().partition("\n\n")
    rows = list(csv.DictReader(first_table.splitlines()))
    return sorted(rows, key=lambda row: int(row["Concurrency"]))


def measurements(rows: list[dict[str, str]], printed: str) -> list[Measurement]:
    """The report's rows, with what is only printed (`-v`): requests, windows and composing models."""
    sections = dict(_sections(printed))
    return [_measurement(row, sections.get(int(row["Concurrency"]), "")) for row in rows]


def _sections(printed: str) -> Iterator[tuple[int, str]]:
    starts = list(_SECTION.finditer(printed))
    ends = [start.start() for start in starts[1:]] + [len(printed)]
    for start, end in zip(starts, ends, strict=True):
        yield int(start[1]), printed[start.end() : end]


def _measurement(row: Mapping[str, str], section: str) -> Measurement:
    requests = _REQUESTS.search(section)
    return Measurement(
        concurrency=int(row["Concurrency"]),
        texts_per_second=float(row["Inferences/Second"]),
        latency={p: float(row[f"p{p} latency"]) / 1e3 for p in (50, 90, 95, 99)},
        mean_latency=float(row["Avg latency"]) / 1e3,
        requests=int(requests[1]) if requests else 0,
        windows=tuple(float(found) for found in _PASS.findall(section)),
        steps=tuple(_steps(section.partition("Composing models:")[2])),
    )


def _steps(section: str) -> Iterator[Step]:
    for found in _STEP.finditer(section):
        microseconds = {name: int(found[name]) for name in ("queue", "input", "infer", "output")}
        yield Step(
            model=found["model"],
            queue=microseconds["queue"] / 1e3,
            compute=(microseconds["input"] + microseconds["infer"] + microseconds["output"]) / 1e3,
            texts_per_execution=int(found["texts"]) / max(1, int(found["executions"])),
        )
