"""The picture of `python -m perf load`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perf import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from perf.load.analyzer_report import Measurement
    from perf.load.points import Point

Found = Sequence[tuple["Point", "Measurement"]]

_LINES = {"grpc": "-", "http": "--"}
_MARKERS = {"grpc": "o", "http": "s"}
_PROTOCOLS = {"grpc": "gRPC", "http": "HTTP"}


def draw(found: Found, model: str, max_tokens: int) -> Figure:
    """Throughput, latency and where a request's time goes, against concurrency."""
    import matplotlib.pyplot as plt

    figure, (throughput, latency, breakdown) = plt.subplots(1, 3, figsize=(13, 4.3))
    figure.suptitle(
        f"{model} under perf_analyzer: sentences of {max_tokens} tokens at most", x=0.005, ha="left", fontsize=12
    )
    _throughput(throughput, found)
    smallest = min(point.batch_size for point, _ in found)
    _latency(latency, [(p, m) for p, m in found if p.batch_size == smallest], smallest)
    first = found[0][0].protocol
    _breakdown(breakdown, [(p, m) for p, m in found if p.batch_size == smallest and p.protocol == first], model)
    return figure


def _throughput(axes: Axes, found: Found) -> None:
    batch_sizes = sorted({point.batch_size for point, _ in found})
    for colour, batch_size in zip(plots.SERIES, batch_sizes, strict=False):
        for protocol in _PROTOCOLS:
            line = [(p.concurrency, m) for p, m in found if (p.batch_size, p.protocol) == (batch_size, protocol)]
            if not line:
                continue
            levels, rates = [level for level, _ in line], [m.texts_per_second for _, m in line]
            low = [max(0.0, m.texts_per_second - min(m.windows, default=m.texts_per_second)) for _, m in line]
            high = [max(0.0, max(m.windows, default=m.texts_per_second) - m.texts_per_second) for _, m in line]
            axes.errorbar(
                levels,
                rates,
                yerr=[low, high],
                color=colour,
                linestyle=_LINES[protocol],
                marker=_MARKERS[protocol],
                elinewidth=0.8,
                capsize=2,
                label=f"{batch_size} text{'s' if batch_size > 1 else ''} a request, {_PROTOCOLS[protocol]}",
            )
    axes.set_title("Throughput (bars: windows)")
    axes.set_ylabel("texts/s")
    axes.set_ylim(bottom=0)
    _concurrency(axes, found)
    axes.legend(fontsize=8)


def _latency(axes: Axes, found: Found, batch_size: int) -> None:
    for protocol in _PROTOCOLS:
        line = [(p.concurrency, m) for p, m in found if p.protocol == protocol]
        for colour, percentile in zip((plots.BLUE, plots.ORANGE, plots.RED), (50, 95, 99), strict=True):
            if line:
                axes.plot(
                    [level for level, _ in line],
                    [m.latency[percentile] for _, m in line],
                    color=colour,
                    linestyle=_LINES[protocol],
                    marker=_MARKERS[protocol],
                    label=f"p{percentile}, {_PROTOCOLS[protocol]}",
                )
    plots.plain_log(axes)
    axes.set_title(f"Latency of a request of {batch_size} text{'s' if batch_size > 1 else ''}")
    axes.set_ylabel("ms")
    _concurrency(axes, found)
    axes.legend(fontsize=8)


def _breakdown(axes: Axes, found: Found, model: str) -> None:
    """Stacked bars: the queues of all steps, each step's own time, and what is left."""
    levels = [point.concurrency for point, _ in found]
    places = range(len(levels))
    parts: dict[str, list[float]] = {"waiting in queues": [sum(step.queue for step in m.steps) for _, m in found]}
    for name in ("tokenizer", "encoder", "pooling"):
        parts[name] = [sum(s.compute for s in m.steps if s.model == f"{model}_{name}") for _, m in found]
    inside = [sum(times) for times in zip(*parts.values(), strict=True)]
    parts["network and the rest"] = [
        max(0.0, m.mean_latency - known) for (_, m), known in zip(found, inside, strict=True)
    ]
    bottom = [0.0] * len(levels)
    totals = [sum(times) for times in zip(*parts.values(), strict=True)]
    for (name, times), colour in zip(
        parts.items(), (plots.GREY, plots.SKY, plots.BLUE, plots.GREEN, plots.ORANGE), strict=True
    ):
        shares = [100 * t / total if total else 0.0 for t, total in zip(times, totals, strict=True)]
        axes.bar(places, shares, bottom=bottom, color=colour, width=0.72, label=name)
        bottom = [b + share for b, share in zip(bottom, shares, strict=True)]
    for place, total in zip(places, totals, strict=True):
        axes.text(place, 101.5, f"{total:,.3g}", ha="center", fontsize=7.5, color="#555555")
    axes.set_xticks(list(places), [str(level) for level in levels])
    axes.set_ylim(0, 108)
    axes.grid(False)
    axes.set_title(f"Where it goes, {_PROTOCOLS[found[0][0].protocol]} (above: mean ms)")
    axes.set_ylabel("% of a request's time")
    axes.set_xlabel("requests at a time")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, columnspacing=1.2)


def _concurrency(axes: Axes, found: Found) -> None:
    plots.log_ticks(axes, sorted({point.concurrency for point, _ in found}))
    axes.set_xlabel("requests at a time")
