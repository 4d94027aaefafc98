"""Clients that copy and pickle by what they were made with, as Spark, Ray, Dask and process pools need."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from typing_extensions import Self


class Reconnecting:
    """Leaves behind what `_start_unconnected` makes: connections, locks and what is on its way."""

    _left_behind: ClassVar[tuple[str, ...]] = ()
    """The names of what `_start_unconnected` makes."""

    def _start_unconnected(self) -> None:
        """Make what belongs to this process alone, without connecting yet."""

    def __copy__(self) -> Self:
        """One that shares nothing with this one."""
        return deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        """All that lands elsewhere; what lands there connects when it is first used."""
        return {name: value for name, value in vars(self).items() if name not in self._left_behind}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start without a connection."""
        vars(self).update(state)
        self._start_unconnected()
