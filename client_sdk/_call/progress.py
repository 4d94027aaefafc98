"""A progress bar, if it is asked for; tqdm is an optional dependency."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from client_sdk._errors import InvalidArgument


class Progress:
    """Counts texts that are done, on standard error."""

    def __init__(self, total: int | None, show: bool) -> None:
        self._bar: Any = None
        self._make: Callable[[], Any] | None = None
        if show:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                raise InvalidArgument("show_progress needs tqdm, which is not installed: pip install tqdm") from None
            self._make = partial(tqdm, total=total, unit="text", unit_scale=True)

    def begin(self) -> None:
        """Show that none is done yet."""
        if self._make is not None:
            self._bar, self._make = self._make(), None

    def update(self, count: int) -> None:
        """`count` more texts are done."""
        if self._bar is not None:
            self._bar.update(count)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
