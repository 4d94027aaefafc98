"""What Ctrl-C must not end in the middle, and must end soon.

Python raises KeyboardInterrupt in the main thread, between any two of its steps. Within a library's bookkeeping that
leaves a lock held, or a request that is counted and that nobody waits for, and what waits for that waits for ever.
And it raises it late, if the main thread was about to wait: when the wait is over.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_Task = Callable[[], object]

NOTICE_SECONDS = 0.5
"""No wait is longer without a look whether there was a Ctrl-C."""


def get(items: queue.SimpleQueue[T], seconds: float) -> T:
    """The next item; raises queue.Empty if none comes in time."""
    end = time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        try:
            return items.get(timeout=max(0.0, min(NOTICE_SECONDS, left)))
        except queue.Empty:
            if left <= NOTICE_SECONDS:
                raise


class Unbroken:
    """Does one task after the other, in a thread that ends with it. Tasks do not raise.

    The main thread touches nothing but queues made in C, which an interrupt leaves whole.
    """

    def __init__(self, name: str) -> None:
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = threading.Thread(
            target=_work, args=(self._tasks,), name=name, daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending, and some Pythons start no thread then
            self._thread = None
        weakref.finalize(self, self._tasks.put, None).atexit = False

    def do(self, task: _Task) -> None:
        """Have the task done, without waiting for it if there is the thread."""
        if self._thread is None:
            task()
        else:
            self._tasks.put(task)

    def wait_for(self, task: _Task, seconds: float) -> None:
        """Have the task done, and wait so long at most; not at all within the thread itself."""
        done: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.do(lambda: done.put(task()))
        if threading.current_thread() is not self._thread:
            with contextlib.suppress(queue.Empty):
                get(done, seconds)


def _work(tasks: queue.SimpleQueue[_Task | None]) -> None:
    while (task := tasks.get()) is not None:
        task()
        del task  # it holds its call, with all of the reply
