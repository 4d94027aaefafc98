"""One address in front of several, as a load balancer is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count


@contextmanager
def one_address(*ports: int) -> Iterator[int]:
    """A port whose connections go to these in turn, and past one that takes none."""
    turns, loop = count(), asyncio.new_event_loop()

    async def connected() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        first = next(turns)
        for turn in range(first, first + len(ports)):
            with suppress(ConnectionRefusedError):
                return await asyncio.open_connection("127.0.0.1", ports[turn % len(ports)])
        raise ConnectionRefusedError

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            to_reader, to_writer = await connected()
            await asyncio.gather(passed_on(reader, to_writer), passed_on(to_reader, writer))
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(relay, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(ended(server))
        loop.close()


async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What one sends, to its end or that of the connection."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def ended(server: asyncio.Server) -> None:
    """Nothing is open any more."""
    server.close()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
