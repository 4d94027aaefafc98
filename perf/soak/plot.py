"""The picture of `python -m perf soak`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perf import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from perf.memory.samples import Samples

_COLOURS = (plots.ORANGE, plots.GREY, plots.GREEN, plots.BLUE, plots.SKY, plots.PURPLE, plots.RED, plots.YELLOW)


def draw(memory: Samples, counts: Samples, things: Sequence[str], warm: float, model: str) -> Figure:
    """Memory by process, what is counted of the server, and calls by outcome, over the same time."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(3, 1, figsize=(10, 9), sharex=True)
    outcomes = [name for name in counts.mib if name not in things]
    shown = (
        ("MiB", memory, sorted(memory.mib, key=lambda name: -memory.mib[name][-1])),
        ("number", counts, list(things)),
        ("calls so far", counts, outcomes),
    )
    for axes, (unit, samples, names) in zip(panels, shown, strict=True):
        minutes = [second / 60 for second in samples.seconds]
        for place, name in enumerate(names):
            series = samples.mib[name]
            axes.plot(minutes, series, color=_COLOURS[place % len(_COLOURS)], label=f"{name}: {series[-1]:,.0f}")
        axes.axvspan(0, warm / 60, color="#F2F2F2", zorder=0)
        axes.set_ylim(bottom=0)
        axes.set_ylabel(unit)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    panels[-1].set_xlim(0, memory.seconds[-1] / 60)
    panels[-1].set_xlabel("minutes")
    panels[0].set_title(f"{model}: mixed traffic, with malformed requests and a family that comes and goes")
    return figure
