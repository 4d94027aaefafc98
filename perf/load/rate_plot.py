"""The picture of `python -m perf load --rate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from perf import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from perf.load.open_loop import Outcome


def draw(
    found: Mapping[str, Sequence[Outcome]], knees: Mapping[str, float | None], model: str, texts_a_request: int
) -> Figure:
    """Latency against the rate of requests, with the knee of each that was asked."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    texts = "text" if texts_a_request == 1 else "texts"
    figure.suptitle(
        f"{model}: requests of {texts_a_request} {texts} that come at random", x=0.005, ha="left", fontsize=12
    )
    for colour, (name, outcomes) in zip(plots.SERIES, found.items(), strict=False):
        outcomes = [one for one in outcomes if one.latency]
        rates = [one.rate for one in outcomes]
        for percentile, line in ((99, "-"), (50, ":")):
            latencies = [one.latency[percentile] for one in outcomes]
            axes.plot(rates, latencies, color=colour, linestyle=line, marker="o", label=f"p{percentile}, {name}")
        if (knee := knees[name]) is not None:
            axes.axvline(knee, color=colour, linestyle="--", linewidth=0.9, label=f"knee: {knee:,.0f} requests/s")
    plots.plain_log(axes)
    axes.set_xlim(left=0)
    axes.set_title("Latency, from when a request was to start")
    axes.set_xlabel("requests a second")
    axes.set_ylabel("ms")
    axes.legend(fontsize=8)
    return figure
