"""Clients that copy and pickle by what they were made with, as Spark, Ray, Dask and process pools need."""

from __future__ import annotations

from copy import copy
from typing import Any, ClassVar

from client_sdk._typing import Self


class Reconnecting:
    """Leaves behind what `_start_unconnected` makes: connections, locks and what is on its way."""

    _left_behind: ClassVar[tuple[str, ...]] = ()
    """The names of what `_start_unconnected` makes."""

    def _start_unconnected(self) -> None:
        """Make what belongs to this process alone, without connecting yet."""

    def __copy__(self) -> Self:
        """One with connections of its own."""
        other = type(self).__new__(type(self))
        state = self.__getstate__()
        other.__setstate__(
            {name: copy(value) if isinstance(value, Reconnecting) else value for name, value in state.items()}
        )
        return other

    def __getstate__(self) -> dict[str, Any]:
        """All that lands elsewhere; what lands there connects when it is first used."""
        return {name: value for name, value in vars(self).items() if name not in self._left_behind}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start without a connection."""
        vars(self).update(state)
        self._start_unconnected()
