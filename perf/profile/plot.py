"""The picture of `python -m perf profile`: a request as a flame graph that hangs from the top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from perf import plots
from perf.profile.spans import ARITHMETIC, STEPS, Span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {
    "whole": "#D9D9D9",
    "client": plots.ORANGE,
    "network": "#B8B8B8",
    "server": "#DDD6C6",
    "tokenizer": plots.SKY,
    "encoder": "#4A97C9",
    "pooling": plots.GREEN,
}
_FADED = 0.55  # the phases of a step, under it
_SHOWN = 9
_CHARACTER = 0.0125  # of the width of the graph, that a label's character needs


def draw(cases: Mapping[str, Span], model: str) -> Figure:
    """For each case a flame graph on its own scale, and beside it what is not the network's arithmetic, enlarged."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    figure, all_axes = plt.subplots(
        len(cases), 2, figsize=(13, 2.9 * len(cases) + 0.4), squeeze=False, width_ratios=(2.6, 1)
    )
    figure.suptitle(f"{model}: where the time of one request goes", x=0.005, ha="left", fontsize=12)
    for (flame, rest), (name, span) in zip(all_axes, cases.items(), strict=True):
        flame.set_title(f"{name}: {span.milliseconds:.3g} ms")
        _draw_span(flame, span, 0.0, span.milliseconds, 0, span.milliseconds)
        flame.set_xlim(0, span.milliseconds)
        flame.set_ylim(4, 0)
        flame.set_yticks([0.5, 1.5, 2.5, 3.5], ["request", "where", "part", "phase"], fontsize=8)
        flame.tick_params(axis="y", length=0)
        flame.grid(False)
        flame.spines["left"].set_visible(False)
        flame.set_xlabel("ms")
        _draw_rest(rest, span)
    kinds = [Patch(color=colour, label=kind) for kind, colour in _COLOURS.items() if kind not in ("whole", "server")]
    figure.legend(handles=kinds, loc="upper right", ncols=len(kinds), fontsize=8.5)
    return figure


def _draw_rest(axes: Axes, whole: Span) -> None:
    """The largest of the smallest parts, but for the encoder's computing."""
    leaves = [
        (f"{span.kind}: {span.name}" if span.kind in STEPS else span.name, span)
        for _, span in whole.walk()
        if not span.parts and span.milliseconds > 0 and (span.kind, span.name) != ARITHMETIC
    ]
    shown = sorted(leaves, key=lambda leaf: -leaf[1].milliseconds)[:_SHOWN]
    rest = sum(span.milliseconds for _, span in leaves)
    places = range(len(shown))
    bars = axes.barh(
        places, [span.milliseconds for _, span in shown], color=[_COLOURS[span.kind] for _, span in shown], height=0.75
    )
    axes.bar_label(bars, fmt="%.2f", fontsize=7.5, padding=2)
    axes.set_yticks(places, [name for name, _ in shown], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.grid(False, axis="y")
    axes.set_title(f"without the encoder's computing: {rest:.3g} ms", fontsize=9)
    axes.set_xlabel("ms")


def _draw_span(axes: Axes, span: Span, start: float, width: float, depth: int, whole: float) -> None:
    """Draws a span `width` wide, and its parts under it, which share its width in proportion."""
    axes.barh(
        depth + 0.5,
        width,
        left=start,
        height=0.96,
        color=_COLOURS.get(span.kind, plots.PURPLE),
        alpha=_FADED if depth == 3 else 1.0,
        edgecolor="white",
        linewidth=0.8,
    )
    label = _label(span, width / whole)
    if label:
        axes.text(start + width / 2, depth + 0.5, label, ha="center", va="center", fontsize=8, color="#1A1A1A")
    total = sum(max(0.0, part.milliseconds) for part in span.parts)
    for part in span.parts:
        share = width * max(0.0, part.milliseconds) / total if total else 0.0
        _draw_span(axes, part, start, share, depth + 1, whole)
        start += share


def _label(span: Span, share: float) -> str:
    """As much of name and milliseconds as fits."""
    milliseconds = f"{span.milliseconds:.2f}"
    for label in (f"{span.name} {milliseconds}", f"{span.name}\n{milliseconds}", milliseconds):
        if max(map(len, label.split("\n"))) * _CHARACTER < share:
            return label
    return ""
