"""Large answers, sent piece by piece."""

import asyncio

import pytest
from starlette.responses import Response

from client_sdk.gateway.answers import json_answer
from client_sdk.gateway.sending import PIECE_BYTES, Sending

LARGE = bytes(range(256)) * (PIECE_BYTES // 100)


class Caller:
    """It takes the head and one piece of an answer, and more when it is told to."""

    def __init__(self) -> None:
        self.scope: dict = {"type": "http"}
        self.taken: list[dict] = []
        self.goes_on = asyncio.Event()

    async def send(self, message: dict) -> None:
        if len(self.taken) == 2:
            await self.goes_on.wait()
        self.taken.append(message)

    async def asks(self, answer: Response) -> None:
        await answer(self.scope, None, self.send)  # type: ignore[arg-type]

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.taken[1:])

    @property
    def is_whole(self) -> bool:
        return not self.taken[-1]["more_body"]


def large() -> Response:
    return Response(LARGE, 203, {"x-of": "it"})


async def test_a_large_answer_is_sent_in_pieces_and_a_small_one_as_it_is():
    caller, plain = Caller(), Caller()
    for one in (caller, plain):
        one.goes_on.set()
    await plain.asks(large())
    await caller.asks(Sending(1).answer(large()))
    assert caller.taken[0] == plain.taken[0] and caller.body == plain.body and caller.is_whole
    assert len(caller.taken) == 4 and max(len(message["body"]) for message in caller.taken[1:]) == PIECE_BYTES
    small = json_answer(["text"])
    assert Sending(1).answer(small) is small


async def test_of_more_than_all_may_have_the_oldest_are_left():
    sending = Sending(2 * len(LARGE))
    callers = [Caller() for _ in range(3)]
    tasks = []
    for caller in callers:
        tasks.append(asyncio.ensure_future(caller.asks(sending.answer(large()))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await tasks[0]
    assert not callers[0].is_whole and callers[0].scope["client_sdk.gateway.notes"] == {"error": "slow"}
    for caller in callers:
        caller.goes_on.set()
    await asyncio.gather(*tasks)
    assert [caller.is_whole for caller in callers] == [False, True, True]
    last = Caller()  # what has been sent is not counted any more
    last.goes_on.set()
    await last.asks(sending.answer(large()))
    assert last.body == LARGE


async def test_a_caller_that_is_ended_otherwise_is_not_called_slow():
    caller = Caller()
    task = asyncio.ensure_future(caller.asks(Sending(1).answer(large())))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "client_sdk.gateway.notes" not in caller.scope
