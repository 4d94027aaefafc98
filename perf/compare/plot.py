"""The picture of a comparison: a panel for each load, a bar for each system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.compare.comparison import LATENCY, THROUGHPUT, System, ratios
from perf.plots import BLUE, GREY, ORANGE, save, style

_TITLES = {
    "16x1": "16 clients, one text each (texts/s)",
    "2x64": "2 clients, 64 texts each (texts/s)",
    "bulk": "one call with all texts (texts/s)",
    LATENCY: "one client, one text: p50 (ms; less is better)",
}


def draw(
    systems: Sequence[System], ours: Sequence[str], bare: Sequence[str], machine: Mapping[str, Any], path: Path
) -> list[Path]:
    """Write the picture as PNG and SVG. Raises PlotsMissing."""
    ceiling = ratios(systems, ours, bare).ceiling
    with style():
        import matplotlib.pyplot as plt

        shown = [system for system in reversed(systems) if system.rounds]
        figure, panels = plt.subplots(2, 2, figsize=(12, max(6.8, 0.52 * len(shown))), sharey=True)
        for axes, load in zip(panels.flat, (*THROUGHPUT, LATENCY), strict=True):
            for place, system in enumerate(shown):
                found = system.figure(load)
                if found is None:
                    continue
                colour = BLUE if system.name in ours else GREY if system.name in bare else ORANGE
                spread = [[found.median - found.least], [found.most - found.median]]
                axes.barh(place, found.median, color=colour, xerr=spread, error_kw={"ecolor": "#444444", "capsize": 2})
                text = f"{found.median:.0f}" if found.median >= 20 else f"{found.median:.1f}"
                axes.annotate(
                    text, (found.most, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
                )
            if load != LATENCY and ceiling:
                axes.axvline(ceiling, color="#666666", linestyle="--", linewidth=1)
            axes.set_title(_TITLES[load])
            axes.set_yticks(range(len(shown)), [system.title for system in shown])
            axes.grid(visible=False, axis="y")
            axes.margins(x=0.12)
        if ceiling:
            panels[0, 0].annotate(
                "ceiling: bare ONNX Runtime, bulk",
                (ceiling, len(shown) - 0.6),
                xytext=(-4, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=8,
                color="#666666",
            )
        return save(figure, path, machine)
