"""One address in front of several, as a load balancer is; or in front of one, to end TLS."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count


@contextmanager
def one_address(*ports: int, tls: ssl.SSLContext | None = None, at: int = 0) -> Iterator[int]:
    """A port whose connections go to these in turn, and past one that takes none; with `tls` it speaks that.

    It is any that is free, or `at`.
    """
    turns, loop = count(), asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # handshakes that fail, connections that end in the middle
    writers: set[asyncio.StreamWriter] = set()

    async def connected() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        first = next(turns)
        for turn in range(first, first + len(ports)):
            with suppress(ConnectionRefusedError):
                return await asyncio.open_connection("127.0.0.1", ports[turn % len(ports)])
        raise ConnectionRefusedError

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with suppress(ConnectionError):
            to_reader, to_writer = await connected()
            writers.add(to_writer)
            await asyncio.gather(passed_on(reader, to_writer), passed_on(to_reader, writer))
        writer.close()

    thread = threading.Thread(target=loop.run_forever)  # whatever loop the test itself runs in
    thread.start()
    try:
        starting = asyncio.start_server(relay, "127.0.0.1", at, ssl=tls)
        server = asyncio.run_coroutine_threadsafe(starting, loop).result()
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            asyncio.run_coroutine_threadsafe(ended(server, writers), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What one sends, to its end or that of the connection."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def ended(server: asyncio.Server, writers: set[asyncio.StreamWriter]) -> None:
    """Nothing is open any more."""
    server.close()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    for writer in writers:
        writer.transport.abort()  # at the next turn of the loop, and what TLS has below it at another
    await asyncio.sleep(0.01)
