"""A stream of texts, read for an event loop without holding it up."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from client_sdk._call.plan import Window, windows
from client_sdk._call.texts import Text

_Wish = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Window | None]"]


def stream_windows(texts: Iterator[Text] | AsyncIterator[Text]) -> AsyncGenerator[Window, None]:
    """Cut a stream into windows. A blocking iterator is read in a thread of its own, and always in the same one."""
    return _awaited(texts) if isinstance(texts, AsyncIterator) else _from_thread(texts)


async def _from_thread(texts: Iterator[Text]) -> AsyncGenerator[Window, None]:
    wishes: queue.SimpleQueue[_Wish | None] = queue.SimpleQueue()
    context = contextvars.copy_context()
    # A daemon: what is stuck in a user's iterator must not keep the program from ending.
    reader = threading.Thread(target=context.run, args=(_read, texts, wishes), name="bert-texts", daemon=True)
    reader.start()
    loop = asyncio.get_running_loop()
    try:
        while True:
            future: asyncio.Future[Window | None] = loop.create_future()
            wishes.put((loop, future))
            window = await future
            if window is None:
                return
            yield window
            del window
    finally:
        wishes.put(None)


def _read(texts: Iterator[Text], wishes: queue.SimpleQueue[_Wish | None]) -> None:
    cut = windows(texts)
    while (wish := wishes.get()) is not None:
        loop, future = wish
        window: Window | None = None
        failure: BaseException | None = None
        try:
            window = next(cut, None)
        except BaseException as error:  # it is the caller's to handle
            failure = error
        try:
            loop.call_soon_threadsafe(_settle, future, window, failure)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
            return
        del wish, future, window, failure


def _settle(future: asyncio.Future[Window | None], window: Window | None, failure: BaseException | None) -> None:
    if future.done():  # given up
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(window)


async def _awaited(texts: AsyncIterator[Text]) -> AsyncGenerator[Window, None]:
    window = Window(0)
    following: asyncio.Task[Text | None] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(_next(texts))
            patience = max(0.0, window.seconds_left()) if window.entries else None
            done, _ = await asyncio.wait([following], timeout=patience)
            full = not done
            if done:
                text = following.result()
                following = None
                if text is None:
                    break
                full = window.add(text)
            if full:
                yield window
                window = Window(window.end)
        if window.entries:
            yield window
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _next(texts: AsyncIterator[Text]) -> Text | None:
    try:
        return await texts.__anext__()
    except StopAsyncIteration:
        return None
