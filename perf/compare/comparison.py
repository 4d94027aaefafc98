"""What a comparison found: medians and spread over the rounds, ratios, and the tables that show them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from perf.compare.systems.system import BULK, LOADS

LATENCY = "1x1"
THROUGHPUT = tuple(load for load in (*LOADS, BULK) if load != LATENCY)


@dataclass(frozen=True)
class Figure:
    """The same thing measured once a round."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Median and range."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{_number(self.median)} ({_number(self.least)}–{_number(self.most)})"


@dataclass
class System:
    """One system and what was measured of it.

    Attributes:
        in_process: Whether it is a library that computes in the process that asks, not a server.
        on_ids: Whether it is an engine alone, which is asked no texts but their ids.
        precision: What it computes in.
        rounds: Of each load, what the worker said, once a round.
        costs: `idle_cores`, `memory_mb`, `start_seconds`: once a round each.
        difference: The greatest from the reference, or the smallest cosine, in words.
        absent: Why there is nothing, or nothing more, of it.
    """

    name: str
    title: str
    settings: str
    in_process: bool = False
    on_ids: bool = False
    precision: str = "fp32"
    rounds: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    costs: dict[str, list[float]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    difference: str = ""
    absent: str = ""

    def add(self, load: str, found: dict[str, Any]) -> None:
        """Take what the worker said of a load in another round."""
        self.rounds.setdefault(load, []).append(found)

    def add_cost(self, name: str, value: float | None) -> None:
        """Take a cost of another round, if there is one."""
        if value is not None:
            self.costs.setdefault(name, []).append(value)

    def as_json(self) -> dict[str, Any]:
        """All of it, the latencies of a round as their number and quantiles."""
        rounds = {load: [_with_quantiles(each) for each in found] for load, found in self.rounds.items()}
        return {**vars(self), "rounds": rounds}

    def figure(self, load: str) -> Figure | None:
        """Texts a second, or the p50 of one text in milliseconds."""
        rounds = self.rounds.get(load)
        if not rounds:
            return None
        if load == LATENCY:
            return Figure.of([statistics.median(each["latency_ms"]) for each in rounds])
        return Figure.of([each["texts_per_second"] for each in rounds])

    def median(self, load: str) -> float | None:
        """The same without its range."""
        figure = self.figure(load)
        return figure.median if figure else None

    def cost(self, name: str) -> float | None:
        """The median of a cost."""
        return statistics.median(self.costs[name]) if self.costs.get(name) else None

    def client_cores(self, load: str) -> float | None:
        """Cores that the client's process used, where the server is another; its part in what was measured."""
        found = [each["cores"][0] for each in self.rounds.get(load, []) if len(each["cores"]) > 1]
        return statistics.median(found) if found else None


@dataclass(frozen=True)
class Ratios:
    """What the systems come to beside each other.

    Attributes:
        ceiling: The best bulk rate of the bare network, texts/s, whatever the precision; None if it was not measured.
        bare_ms: The bare network's p50 of one text.
        best_server: Of each load, the name of the best server that is not ours.
        best_library: Of each load, the name of the best that computes in the process that asks, bare aside.
    """

    ceiling: float | None
    bare_ms: float | None
    best_server: dict[str, str]
    best_library: dict[str, str]


def ratios(systems: Sequence[System], ours: Sequence[str], bare: Sequence[str], precision: str = "fp32") -> Ratios:
    """Find what those that compute in a precision are measured by."""
    bulk = [rate for system in systems if system.name in bare and (rate := system.median(BULK)) is not None]
    one = [each for system in systems if system.name in bare and (each := system.median(LATENCY)) is not None]
    peers = [
        system
        for system in systems
        if system.name not in (*ours, *bare) and system.precision == precision and not system.on_ids
    ]
    return Ratios(
        ceiling=max(bulk, default=None),
        bare_ms=min(one, default=None),
        best_server=_best([system for system in peers if not system.in_process]),
        best_library=_best([system for system in peers if system.in_process]),
    )


def _best(systems: Sequence[System]) -> dict[str, str]:
    best: dict[str, str] = {}
    for load in (LATENCY, *THROUGHPUT):
        found = {system.name: median for system in systems if (median := system.median(load)) is not None}
        if found:
            best[load] = (min if load == LATENCY else max)(found, key=found.__getitem__)
    return best


def against_peer(systems: Sequence[System], ours: str, peer: str, load: str) -> float | None:
    """How many times as good ours is: rates, or latencies the other way round."""
    by_name = {system.name: system for system in systems}
    mine, its = (by_name[name].median(load) if name in by_name else None for name in (ours, peer))
    if not mine or not its:
        return None
    return its / mine if load == LATENCY else mine / its


def summary_lines(systems: Sequence[System], ours: Sequence[str], bare: Sequence[str]) -> list[str]:
    """The ratios, a line for each load and each way in which ours was asked."""
    by_name = {system.name: system for system in systems}
    lines = []
    for load, name in product((*THROUGHPUT, LATENCY), ours):
        figure = by_name[name].median(load) if name in by_name else None
        if figure is None:
            continue
        found = ratios(systems, ours, bare, by_name[name].precision)
        parts = []
        if load == LATENCY and found.bare_ms is not None:
            parts.append(f"bare + {figure - found.bare_ms:.2f} ms")
        if load != LATENCY and found.ceiling:
            parts.append(f"{figure / found.ceiling:.2f} of the ceiling")
        for best, what in ((found.best_server, "server"), (found.best_library, "library")):
            if load in best:
                ratio = against_peer(systems, name, best[load], load)
                parts.append(f"{ratio:.2f} x the best {what} ({by_name[best[load]].title})")
        if parts:
            asked = "" if name == ours[0] else f", {by_name[name].title}"
            lines.append(f"{load}{asked}: {', '.join(parts)}")
    return lines


def against_each(systems: Sequence[System], ours: Sequence[str], bare: Sequence[str]) -> list[list[str]]:
    """How many times as good the first of ours is as each peer, by load; the p50 of one text the other way round."""
    return [
        [system.title, *(f"{ratio:.2f}" if ratio else "" for ratio in found)]
        for system in systems
        if system.name not in (*ours, *bare)
        and any(found := [against_peer(systems, ours[0], system.name, load) for load in (*THROUGHPUT, LATENCY)])
    ]


def rows(systems: Sequence[System], ours: Sequence[str], bare: Sequence[str]) -> list[list[str]]:
    """The table's rows: title, texts/s of each load, p50 of one text, the bulk rate's part of the ceiling."""
    ceiling = ratios(systems, ours, bare).ceiling
    table = []
    for system in systems:
        bulk = system.median(BULK)
        if not system.rounds:
            continue
        share = f"{bulk / ceiling:.2f}" if bulk is not None and ceiling else ""
        cells = [str(system.figure(load) or "") for load in (*THROUGHPUT, LATENCY)]
        table.append([system.title, *cells, share])
    return table


HEADERS = [
    "system",
    *(f"{load} texts/s" for load in THROUGHPUT),
    f"{LATENCY} p50 ms",
    "bulk / ceiling",
]

AGAINST_HEADERS = ["times as good as", *THROUGHPUT, f"{LATENCY} p50"]

COST_HEADERS = ["system", "cores used by the client (16x1, 2x64)", "idle cores", "memory MB", "start s", "difference"]


def cost_rows(systems: Sequence[System]) -> list[list[str]]:
    """What a system takes beside its speed, and how far its vectors are from the reference."""
    return [
        [
            system.title,
            ", ".join(_number(cores) for load in ("16x1", "2x64") if (cores := system.client_cores(load)) is not None),
            *(_number(system.cost(name)) for name in ("idle_cores", "memory_mb", "start_seconds")),
            system.difference,
        ]
        for system in systems
        if system.rounds
    ]


def markdown(
    systems: Sequence[System],
    machine: Mapping[str, Any],
    how: Mapping[str, Any],
    ours: Sequence[str],
    bare: Sequence[str],
) -> str:
    """The whole result as a page."""
    absent = [system for system in systems if system.absent]
    uneven = [
        f"{system.title}: {rounds[0]['texts']:,} of the texts"
        for system in systems
        if (rounds := system.rounds.get(BULK)) and rounds[0]["texts"] < how["texts"]
    ]
    restless = [
        f"{system.title}, {load}" for system in systems for load, rounds in system.rounds.items()
        if not all(each.get("steady", True) for each in rounds)
    ]  # fmt: skip
    lines = [
        "# Beside its peers",
        "",
        f"`{machine['command']}`",
        "",
        *_table(HEADERS, rows(systems, ours, bare)),
        "",
        f"Median over {how['repeats']} rounds, least and most in brackets. 16x1: 16 clients with one text a call; "
        f"2x64: 2 clients with 64; 1x1: one client, one text; bulk: one call with {how['texts']:,} texts. "
        "The ceiling is the best bulk figure of bare ONNX Runtime.",
        "",
        *(f"- {line}" for line in summary_lines(systems, ours, bare)),
        "",
        *_table(AGAINST_HEADERS, against_each(systems, ours, bare)),
        *(["", "Given fewer texts in the bulk call, to end in time: " + "; ".join(uneven) + "."] if uneven else []),
        *(["", "Rate not steady when measured: " + "; ".join(restless) + "."] if restless else []),
        *(["", "## Absent", "", *(f"- {system.title}: {system.absent}" for system in absent)] if absent else []),
        "",
        "## What they cost",
        "",
        *_table(COST_HEADERS, cost_rows(systems)),
        "",
        "## How",
        "",
        *(f"- {line}" for line in how["notes"]),
        "",
        "## Settings",
        "",
        *(f"- **{system.title}**: {system.settings}{_versions(system)}" for system in systems),
        "",
        "## Machine",
        "",
        *_table(["", ""], [[str(name), str(value)] for name, value in machine.items()]),
    ]
    return "\n".join(lines) + "\n"


def _with_quantiles(found: dict[str, Any]) -> dict[str, Any]:
    if "latency_ms" not in found:
        return found
    times = sorted(found["latency_ms"])
    shown = {f"p{q}": round(times[len(times) * q // 100], 3) for q in (50, 95, 99) if times}
    return {**found, "calls": len(times), "latency_ms": shown}


def _versions(system: System) -> str:
    found = ", ".join(f"{name} {version}" for name, version in system.versions.items())
    return f" [{found}]" if found else ""


def _table(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    lines = [headers, ["---", *["---:"] * (len(headers) - 1)], *cells]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 20 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
