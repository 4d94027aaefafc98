"""One event loop in a background thread, for blocking calls over an asynchronous library."""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

# Reentrant, because the garbage collector may close a client, which submits, in the middle of anything.
_lock = threading.RLock()
_loop: asyncio.AbstractEventLoop | None = None
_selector: selectors.BaseSelector | None = None
_thread: threading.Thread | None = None


def submit(call: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
    """Run what `call` returns on the shared background loop; cancelling the future cancels it.

    `call` is called there: Ctrl-C, which may come at any step of this thread's, leaves no coroutine that nobody awaits.
    """
    loop, future = _running_loop(), Future[T]()

    def begin() -> None:
        task = loop.create_task(call())
        task.add_done_callback(lambda task: _hand_over(task, future))
        # Nothing in its closure leads to the future: a cycle would keep the reply until the next collection.
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(task.cancel) if done.cancelled() else None)

    loop.call_soon_threadsafe(begin)
    return future


def _hand_over(task: asyncio.Task[T], future: Future[T]) -> None:
    if task.cancelled():
        future.cancel()
    error = None if task.cancelled() else task.exception()  # looked at in any case, or asyncio logs what it was
    if not future.set_running_or_notify_cancel():
        return
    if error:
        future.set_exception(error)
    else:
        future.set_result(task.result())


def in_loop_thread() -> bool:
    """Whether the caller is the loop's own thread, which must not wait for the loop."""
    return threading.current_thread() is _thread


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop, _selector, _thread
    with _lock:
        if _loop is None:
            selector = selectors.DefaultSelector()
            loop = asyncio.SelectorEventLoop(selector)
            thread = threading.Thread(target=loop.run_forever, name="client_sdk-http", daemon=True)
            thread.start()
            _selector, _thread, _loop = selector, thread, loop  # last, lest Ctrl-C leave one that does not run
        return _loop


def _start_afresh() -> None:
    # A forked child has the loop but not its thread, and perhaps a lock that nobody will release. It also
    # shares the selector's epoll with the parent, whose sockets must stay registered: it closes its copy.
    global _lock, _loop, _selector, _thread
    _lock = threading.RLock()
    if _selector is not None:
        _selector.close()
    _loop = _selector = _thread = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
