"""The look of the pictures, and how they are written; matplotlib is imported when the first one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

from perf.failure import Failure
from perf.machine import summary

# Okabe and Ito's palette: told apart by every kind of eye, and in print.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#8A8A8A",
)
SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY)

_STYLE: Mapping[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.labelcolor": "#333333",
    "axes.prop_cycle": SERIES,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "font.size": 9.5,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "bert-on-triton",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
}


class PlotsMissing(Failure):
    """matplotlib is not installed."""


def style() -> AbstractContextManager[None]:
    """Within it, figures are drawn in the project's look, without a display.

    Raises:
        PlotsMissing: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise PlotsMissing("pictures need matplotlib: pip install matplotlib") from None
    matplotlib.use("agg")
    from cycler import cycler

    return matplotlib.rc_context({**_STYLE, "axes.prop_cycle": cycler(color=_STYLE["axes.prop_cycle"])})


def require() -> None:
    """Says now, rather than after the measurement, that there can be no pictures.

    Raises:
        PlotsMissing: matplotlib is not installed.
    """
    with style():
        pass


def save(figure: Figure, path: Path, machine: Mapping[str, Any]) -> list[Path]:
    """Write `path`.png and `path`.svg, with the machine under the picture, and close the figure."""
    import matplotlib.pyplot as plt

    figure.supxlabel(summary(dict(machine)), fontsize=7.5, color=GREY, x=0.995, ha="right")
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")]
    figure.savefig(paths[0], dpi=150)
    figure.savefig(paths[1], metadata={"Date": None})
    plt.close(figure)
    return paths


def log_ticks(axes: Axes, values: list[int] | list[float], which: str = "x") -> None:
    """A logarithmic axis with a tick at each value and nowhere else, written as a plain number."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_minor_locator(_nowhere())
    axis.set_ticks(values, [f"{value:,.0f}" for value in values])


def plain_log(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers (10, 20, 50, 100 ...)."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_locator(_nowhere())


def plain_ticks(axis: Axis) -> None:
    """Plain numbers (10, 1,000) at the ticks of a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_locator(_nowhere())


def _nowhere() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()
