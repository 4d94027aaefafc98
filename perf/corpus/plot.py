"""The picture of `python -m perf corpus`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from perf.memory.samples import Samples

_SMALL = 20.0
"""MiB: what never holds more is not drawn."""


def draw(samples: Samples, rows: int, model: str) -> Figure:
    """Memory by process over the time of one job."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 5))
    minutes = [second / 60 for second in samples.seconds]
    names = sorted(samples.mib, key=lambda name: -max(samples.mib[name], default=0.0))
    for place, name in enumerate(name for name in names if max(samples.mib[name], default=0.0) > _SMALL):
        series = samples.mib[name]
        style = ("-", "--", ":", "-.")[place // len(plots.SERIES) % 4]
        axes.plot(
            minutes, series, style, color=plots.SERIES[place % len(plots.SERIES)], label=f"{name}: {max(series):,.0f}"
        )
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, minutes[-1] if minutes else 1)
    axes.set_xlabel("minutes")
    axes.set_ylabel("MiB; beside the names, at most")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    axes.set_title(f"{model}: memory of a corpus job of {rows:,} rows")
    return figure
