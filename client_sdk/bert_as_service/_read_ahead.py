"""Reads a stream in a thread of its own, for as far as there is room."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_END = object()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def read_ahead(items: Iterable[T], start: Callable[[T], R], room: int) -> Iterator[R]:
    """Yield `start(item)` of each item, in order; a slow stream does not hold back what was started before.

    No more than `room` results are started and not taken yet. What the stream or `start` raises is raised after
    the results before it. If the iterator is closed early, the stream is not read on.
    """
    started: queue.SimpleQueue[R | _Failure | object] = queue.SimpleQueue()
    places = threading.Semaphore(room)
    closed = threading.Event()

    def read() -> None:
        try:
            stream = iter(items)
            while True:
                places.acquire()
                if closed.is_set():
                    return
                try:
                    item = next(stream)
                except StopIteration:
                    break
                started.put(start(item))
            started.put(_END)
        except BaseException as error:  # it is the consumer's to handle
            started.put(_Failure(error))

    threading.Thread(target=read, name="bert-read-ahead", daemon=True).start()
    try:
        while (result := started.get()) is not _END:
            if isinstance(result, _Failure):
                raise result.error
            yield result  # type: ignore[misc]
            places.release()
    finally:
        closed.set()
        places.release()
