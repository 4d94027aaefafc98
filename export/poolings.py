"""The poolings by name, and the reductions of the network that each puts side by side.

A pooling is one of `POOLINGS`, several of them joined by "+" in the order of the vector (`cls+mean`), or `pooler`.
"""

from __future__ import annotations

from collections.abc import Iterable

from export.errors import ExportError

POOLINGS = {
    "mean": ("mean",),
    "max": ("max",),
    "mean_max": ("mean", "max"),
    "cls": ("first",),
    "last": ("last",),
    "lasttoken": ("last",),
    "mean_sqrt_len_tokens": ("mean_sqrt_len_tokens",),
    "weightedmean": ("weightedmean",),
}
"""The first of those that are equal is the one that a family's config has."""

POOLER = "pooler"


def parts(pooling: str) -> tuple[str, ...]:
    """The reductions of a pooling, in the order of its vector; for `pooler`, that alone.

    Raises:
        ExportError: There is no such pooling, or it has a reduction twice.
    """
    if pooling == POOLER:
        return (POOLER,)
    found = [part for name in pooling.split("+") for part in POOLINGS.get(name, ("",))]
    if "" in found or len({*found}) < len(found):
        raise ExportError(
            f"the pooling {pooling[:100]!r} is not known; there are {', '.join((*POOLINGS, POOLER))}, and several "
            "(not pooler) joined by +, each once, such as cls+mean"
        )
    return tuple(found)


def name(found: Iterable[str]) -> str:
    """The pooling that has these reductions, in this order."""
    found = tuple(found)
    names = {reductions: name for name, reductions in reversed(POOLINGS.items())} | {(POOLER,): POOLER}
    return names.get(found) or "+".join(names[(part,)] for part in found)
