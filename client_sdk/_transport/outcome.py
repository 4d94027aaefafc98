"""Waits for a task, where who waits may be cancelled at any moment.

A bare `await` raises the cancellation of the task and that of who waits for it alike. `asyncio.wait_for` of Python 3.10
and 3.11 returns as if nothing had happened where the cancellation comes in the moment in which the task ends.
"""

from __future__ import annotations

import asyncio
from typing import Any


async def ended(task: asyncio.Task[Any], seconds: float | None = None) -> bool:
    """Whether a task ends within so many seconds; it is given up if it does not, or if who waits here is cancelled.

    Raises:
        asyncio.CancelledError: Who waits is cancelled, whatever becomes of the task.
    """
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
    except asyncio.CancelledError:
        await _give_up(task)
        raise
    if not done:
        await _give_up(task)
    return bool(done)


async def _give_up(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
