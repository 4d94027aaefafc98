"""Who is cancelled while a request is on its way is cancelled, at whatever moment that comes."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from client_sdk._transport.address import Address
from client_sdk._transport.base import InferRequest, Query
from client_sdk._transport.connection import Connection
from client_sdk._transport.http.transport import AsyncHttpTransport
from client_sdk._transport.outcome import ended
from client_sdk._transport.peer import Peer
from client_sdk._transport.pool.transport import AsyncPoolTransport
from client_sdk._transport.retry import Silent
from tests.support.patience import PATIENCE

REQUEST = InferRequest("bert", [[b"text"]], ("EMBEDDING",))


@asynccontextmanager
async def http_transport(answer):
    """Of a server in the same event loop, whose steps are those of both."""
    app = web.Application()
    app.router.add_get("/v2", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    transport = AsyncHttpTransport(Connection(Address("http", *runner.addresses[0])))
    try:
        yield transport
    finally:
        await transport.close()
        await runner.cleanup()


async def steps(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_task_that_asks_for_ever_over_http_ends_at_whatever_step_it_is_cancelled():
    async def answer(request):
        return web.json_response({"version": "2"})

    async def ask():
        while True:
            await transport.query(Query("server"), PATIENCE)

    async with http_transport(answer) as transport:
        assert await transport.query(Query("server"), PATIENCE) == {"version": "2"}
        for count in range(50):  # a call is 8 of them
            task = asyncio.create_task(ask())
            await steps(count)
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
            assert task.cancelled(), count


async def test_what_does_not_end_in_time_is_given_up():
    task = asyncio.create_task(asyncio.sleep(PATIENCE))
    assert not await ended(task, 0.01)
    assert task.cancelled()
    assert await ended(asyncio.create_task(asyncio.sleep(0)), PATIENCE)


class Hung:
    """A server that answers nothing."""

    def __init__(self):
        self.peer = Peer(Address("grpc", "hung", 1))

    async def infer(self, request, timeout):
        await asyncio.sleep(PATIENCE)


@pytest.mark.parametrize("cancelled", ["before", "after", "not"])
async def test_what_is_cancelled_in_the_moment_in_which_its_server_is_given_up_goes_to_no_other(cancelled):
    pool = AsyncPoolTransport([Hung(), Hung()])
    task = asyncio.create_task(pool.infer(REQUEST, PATIENCE))
    await steps(2)
    (turn,) = (turn for member in pool.peer._members for turn in member.turns)
    if cancelled == "before":
        task.cancel()
    turn.give_up()
    if cancelled == "after":
        task.cancel()
    with pytest.raises(Silent if cancelled == "not" else asyncio.CancelledError):
        await task
    assert not any(member.turns for member in pool.peer._members)
    pool._watch.end()
