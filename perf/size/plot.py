"""The picture of `python -m perf size`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from perf import plots
from perf.size.rates import Rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(found: Mapping[str, Sequence[Rate]], model: str) -> Figure:
    """A panel for each measurement that was made."""
    import matplotlib.pyplot as plt

    panels = {"texts": _by_count, "length": _by_length, "mixture": _by_share, "order": _by_order}
    shown = [name for name in panels if name in found]
    columns = min(2, len(shown))
    figure, grid = plt.subplots(
        -(-len(shown) // columns), columns, figsize=(5.6 * columns, 3.7 * -(-len(shown) // columns)), squeeze=False
    )
    figure.suptitle(f"{model}: throughput with size", x=0.005, ha="left", fontsize=12)
    for name, axes in zip(shown, grid.flat, strict=False):
        panels[name](axes, found[name])
    for axes in list(grid.flat)[len(shown) :]:
        axes.remove()
    return figure


def _line(axes: Axes, rates: Sequence[Rate], **how: object) -> None:
    values = [rate.value for rate in rates]
    medians = [rate.texts_per_second for rate in rates]
    low = [rate.texts_per_second - rate.least for rate in rates]
    high = [rate.most - rate.texts_per_second for rate in rates]
    axes.errorbar(values, medians, yerr=[low, high], marker="o", capsize=2, elinewidth=0.8, **how)  # type: ignore[arg-type]


def _by_count(axes: Axes, rates: Sequence[Rate]) -> None:
    _line(axes, rates, color=plots.BLUE)
    axes.set_xscale("log")
    plots.plain_ticks(axes.xaxis)
    for rate in rates:
        if rate.cut_off:
            axes.annotate(
                f"{rate.texts:,} done",
                (rate.value, rate.texts_per_second),
                xytext=(0, -14),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color="#666666",
            )
    axes.set_ylim(bottom=0)
    axes.set_title("Texts in one call")
    axes.set_xlabel("texts")
    axes.set_ylabel("texts/s")


def _by_length(axes: Axes, rates: Sequence[Rate]) -> None:
    _line(axes, rates, color=plots.BLUE, label="texts/s")
    plots.log_ticks(axes, [rate.value for rate in rates])
    plots.plain_log(axes)
    tokens = axes.twinx()
    tokens.plot(
        [rate.value for rate in rates],
        [rate.texts_per_second * rate.tokens for rate in rates],
        color=plots.ORANGE,
        marker="s",
    )
    tokens.set_ylim(bottom=0)
    tokens.set_ylabel("tokens/s", color=plots.ORANGE)
    tokens.grid(False)
    tokens.spines["right"].set_visible(False)
    axes.set_title("Length of the texts")
    axes.set_xlabel("tokens of a text")
    axes.set_ylabel("texts/s", color=plots.BLUE)


def _by_share(axes: Axes, rates: Sequence[Rate]) -> None:
    _line(axes, rates, color=plots.BLUE, label="measured, shuffled")
    if len(rates) > 1 and (rates[0].value, rates[-1].value) == (0, 100):
        short, long = 1 / rates[0].texts_per_second, 1 / rates[-1].texts_per_second
        shares = range(101)
        ideal = [1 / (short + (long - short) * share / 100) for share in shares]
        padded = [1 / long if share else 1 / short for share in shares]
        axes.plot(shares, ideal, color=plots.GREEN, linestyle="--", label="each text as fast as among its like")
        axes.plot(shares, padded, color=plots.RED, linestyle=":", label="padded to the longest")
    axes.set_ylim(bottom=0)
    axes.set_title("Share of long texts")
    axes.set_xlabel("% of texts that are long")
    axes.set_ylabel("texts/s")
    axes.legend(fontsize=8)


def _by_order(axes: Axes, rates: Sequence[Rate]) -> None:
    ways = list(dict.fromkeys(rate.name.rpartition(", ")[0] for rate in rates))
    for offset, order, colour in ((-0.2, "shuffled", plots.BLUE), (0.2, "sorted", plots.SKY)):
        bars = [rate for way in ways for rate in rates if rate.name == f"{way}, {order}"]
        medians = [rate.texts_per_second for rate in bars]
        spread = [[r.texts_per_second - r.least for r in bars], [r.most - r.texts_per_second for r in bars]]
        drawn = axes.bar(
            [place + offset for place in range(len(ways))],
            medians,
            width=0.38,
            color=colour,
            yerr=spread,
            error_kw={"elinewidth": 0.8, "capsize": 2},
            label="shuffled" if order == "shuffled" else "sorted by length beforehand",
        )
        axes.bar_label(drawn, fmt="%.0f", label_type="center", fontsize=8)
    axes.set_xticks(range(len(ways)), ["one call\n(the client sorts)" if way == "one call" else way for way in ways])
    axes.grid(False, axis="x")
    axes.margins(y=0.25)
    axes.set_title("Order of mixed lengths")
    axes.set_ylabel("texts/s")
    axes.legend(fontsize=8, loc="upper center", ncols=2)
