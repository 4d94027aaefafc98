"""The picture of `python -m perf gpu`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perf import plots
from perf.gpu.results import ALLOWED, MIXED, Comparison, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = dict(zip(ALLOWED, plots.SERIES, strict=False))


def draw(comparisons: Sequence[Comparison], measured: Sequence[Measured], device: str) -> Figure:
    """How near each network is, and what was measured by length, by batch, and of mixed lengths."""
    import matplotlib.pyplot as plt

    measured = [one for one in measured if one.points]
    panels = [_gaps] * bool(comparisons) + [_by_length, _by_batch, _latency] * bool(measured)
    columns = min(2, len(panels)) or 1
    lines = -(-len(panels) // columns) or 1
    figure, grid = plt.subplots(lines, columns, figsize=(6.2 * columns, 4.2 * lines), squeeze=False)
    figure.suptitle(f"The networks on {device}", x=0.005, ha="left", fontsize=12)
    for panel, axes in zip(panels, grid.flat, strict=False):
        panel(axes, comparisons if panel is _gaps else measured)
    for axes in list(grid.flat)[len(panels) :]:
        axes.remove()
    return figure


def _gaps(axes: Axes, comparisons: Sequence[Comparison]) -> None:
    forms = list(dict.fromkeys((one.runner, one.layout, one.precision) for one in comparisons))
    for place, form in enumerate(reversed(forms)):
        gaps = [
            max(one.gap, 1e-9)
            for one in comparisons
            if (one.runner, one.layout, one.precision) == form and one.gap is not None
        ]
        axes.plot(gaps, [place] * len(gaps), "o", alpha=0.35, color=_COLOURS[form[2]])
        axes.plot([ALLOWED[form[2]]], [place], "|", color=plots.RED, markersize=12)
    labels = [" ".join(part for part in form if part) for form in reversed(forms)]
    axes.set_yticks(range(len(forms)), labels, fontsize=7)
    axes.set_xscale("log")
    axes.set_title("Difference to PyTorch (red: allowed)")
    axes.set_xlabel("share of the largest value; of INT8: 1 - lowest cosine")


def _by_length(axes: Axes, measured: Sequence[Measured]) -> None:
    largest = max(point.batch for one in measured for point in one.points)
    _lines(axes, measured, largest, "texts_per_second")
    axes.set_title(f"{largest} texts at a time")
    axes.set_ylabel("texts/s")


def _latency(axes: Axes, measured: Sequence[Measured]) -> None:
    smallest = min(point.batch for one in measured for point in one.points)
    _lines(axes, measured, smallest, "p50")
    axes.set_title("Latency of one text" if smallest == 1 else f"Latency of {smallest} texts")
    axes.set_ylabel("ms, median")


def _lines(axes: Axes, measured: Sequence[Measured], batch: int, value: str) -> None:
    lengths = sorted({point.length for one in measured for point in one.points} - {MIXED})
    for one, look in zip(measured, _looks(measured), strict=True):
        points = [point for point in one.points if point.batch == batch and point.length != MIXED]
        axes.plot([p.length for p in points], [getattr(p, value) for p in points], **look, label=one.system)
    plots.log_ticks(axes, lengths)
    plots.plain_log(axes)
    axes.set_xlabel("tokens of a text")
    axes.legend(fontsize=7)


def _by_batch(axes: Axes, measured: Sequence[Measured]) -> None:
    batches = sorted({point.batch for one in measured for point in one.points})
    for one, look in zip(measured, _looks(measured), strict=True):
        points = [point for point in one.points if point.length == MIXED]
        axes.plot([p.batch for p in points], [p.texts_per_second for p in points], **look)
    plots.log_ticks(axes, batches)
    plots.plain_log(axes)
    axes.set_title("Texts of mixed lengths")
    axes.set_xlabel("texts at a time")
    axes.set_ylabel("texts/s")


def _looks(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Of each line: colours, and from the beginning again dashed."""
    count = len(plots.SERIES)
    return [
        {"color": plots.SERIES[i % count], "linestyle": "-" if i < count else "--", "marker": "o"}
        for i in range(len(measured))
    ]
