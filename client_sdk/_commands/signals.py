"""How commands that run until they are told to end are told so."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # of Unix


@contextlib.contextmanager
def sigterm_as_ctrl_c(*, hang_up: bool = False) -> Iterator[None]:
    """Within it SIGTERM raises KeyboardInterrupt, as Ctrl-C does.

    With `hang_up` so does SIGHUP, the end of the terminal, unless whoever started the program has it ignored (nohup).
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM]
    if hang_up and _HANG_UP is not None and signal.getsignal(_HANG_UP) is not signal.SIG_IGN:
        numbers.append(_HANG_UP)
    before = [(number, signal.signal(number, interrupt)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
