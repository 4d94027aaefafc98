"""The picture of `python -m perf memory`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from perf import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from perf.memory.samples import Samples, Trend


def draw(samples: Samples, trends: Mapping[str, Trend], warm: float, model: str) -> Figure:
    """A line a process over time, with its slope in the legend."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 4.6))
    minutes = [second / 60 for second in samples.seconds]
    colours = (plots.ORANGE, plots.GREY, plots.GREEN, plots.BLUE, plots.SKY, plots.PURPLE, plots.RED, plots.YELLOW)
    order = sorted(samples.mib, key=lambda name: -samples.mib[name][-1])
    for place, name in enumerate(order):
        found = trends[name]
        axes.plot(
            minutes,
            samples.mib[name],
            color=colours[place % len(colours)],
            label=f"{name}: {samples.mib[name][-1]:,.0f} MiB, {found.per_minute:+.2f} a minute"
            + ("" if found.is_flat else " (grows)"),
        )
    axes.axvspan(0, warm / 60, color="#F2F2F2", zorder=0)
    axes.annotate(
        "warm-up",
        (warm / 120, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, -12),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color="#777777",
    )
    axes.set_xlim(0, minutes[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes")
    axes.set_ylabel("MiB")
    axes.set_title(f"{model}: memory over a bulk run")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    return figure
