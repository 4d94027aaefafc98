"""The picture of `python -m perf corpus`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf import plots
from perf.corpus.watch import ALL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from perf.memory.samples import Samples

_SMALL = 60.0
"""MiB: what never holds more is not drawn."""


def draw(samples: Samples, rows: int, model: str) -> Figure:
    """Memory by process over the time of one job."""
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(10, 7), sharex=True, height_ratios=(1, 2))
    minutes = [second / 60 for second in samples.seconds]
    above.plot(minutes, samples.mib[ALL], color=plots.GREY, label=f"{ALL}: {max(samples.mib[ALL]):,.0f}")
    at_most = {name: max(series) for name, series in samples.mib.items() if name != ALL}
    shown = sorted((name for name in at_most if at_most[name] > _SMALL), key=lambda name: -at_most[name])
    for place, name in enumerate(shown):
        style = ("-", "--", ":", "-.")[place // len(plots.SERIES) % 4]
        colour = plots.SERIES[place % len(plots.SERIES)]
        below.plot(minutes, samples.mib[name], style, color=colour, label=f"{name}: {at_most[name]:,.0f}")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.set_ylabel("MiB; beside the names, at most")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    below.set_xlim(0, minutes[-1])
    below.set_xlabel("minutes")
    above.set_title(f"{model}: memory of a corpus job of {rows:,} rows, of which each process has its own")
    return figure
