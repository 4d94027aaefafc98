"""One event loop in a background thread, for blocking calls over an asynchronous library."""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

# Reentrant, because the garbage collector may close a client, which submits, in the middle of anything.
_lock = threading.RLock()
_loop: asyncio.AbstractEventLoop | None = None
_selector: selectors.BaseSelector | None = None
_thread: threading.Thread | None = None


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run `coroutine` on the shared background loop; cancelling the future cancels it."""
    return asyncio.run_coroutine_threadsafe(coroutine, _running_loop())


def in_loop_thread() -> bool:
    """Whether the caller is the loop's own thread, which must not wait for the loop."""
    return threading.current_thread() is _thread


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop, _selector, _thread
    with _lock:
        if _loop is None:
            _selector = selectors.DefaultSelector()
            _loop = asyncio.SelectorEventLoop(_selector)
            _thread = threading.Thread(target=_loop.run_forever, name="client_sdk-http", daemon=True)
            _thread.start()
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
