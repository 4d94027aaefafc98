"""Blocks of a stream, given in order while it goes on."""

import asyncio
import itertools
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from client_sdk import AsyncClient, Client, DeadlineExceeded, InvalidArgument, InvalidType, ServerBusy
from client_sdk._call.drive import drive_blocks
from client_sdk._call.drive_async import drive_blocks_async
from client_sdk._call.kinds import blocks
from client_sdk._call.plan import IN_FLIGHT, WINDOW_TEXTS
from client_sdk._session import Session
from client_sdk._settings import make_settings
from client_sdk._transport.retry import Deadline
from tests.support.fake_transport import FakeTransport, texts_of
from tests.support.patience import PATIENCE, settled


class AsyncFake(FakeTransport):
    async def infer(self, request, timeout):
        return await asyncio.get_running_loop().run_in_executor(None, super().infer, request, timeout)

    async def query(self, query, timeout):
        return super().query(query, timeout)


def numbers(request):
    """A text is a number, and its vector holds it."""
    return {"EMBEDDING": np.array([[float(text)] for text in texts_of(request)], np.float32)}


@pytest.fixture(params=["blocking", "asynchronous"])
def stream(request):
    """Blocks of texts through a fake transport, as a plain iterator whichever way they are driven; see `transport`."""
    loop = asyncio.new_event_loop()
    opened = []

    def awaited(generator):
        try:
            while True:
                try:
                    yield loop.run_until_complete(anext(generator))
                except StopAsyncIteration:
                    return
        finally:
            loop.run_until_complete(generator.aclose())

    def stream(texts, answer=numbers, *, deadline=None, **options):
        kind, rest = blocks({"batch_size": 64, **options})
        job = kind.asked("bert", texts, rest)
        stream.transport = (FakeTransport if request.param == "blocking" else AsyncFake)(answer)
        deadline = deadline or Deadline(PATIENCE)
        if request.param == "blocking":
            generator = drive_blocks(job, stream.transport, deadline)
        else:
            generator = awaited(drive_blocks_async(job, stream.transport, deadline))
        opened.append(generator)
        return generator

    yield stream
    for generator in opened:
        generator.close()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.mark.parametrize("wrap", [list, iter])
def test_blocks_are_in_order_and_hold_each_text_once(stream, wrap):
    texts = [str(number) for number in np.random.default_rng(0).integers(0, 10**6, 2 * WINDOW_TEXTS + 100)]
    found = list(stream(wrap(texts)))
    assert [len(block) for block in found][:2] == [WINDOW_TEXTS, WINDOW_TEXTS] or wrap is iter  # which has a clock
    assert np.concatenate(found)[:, 0].tolist() == [float(text) for text in texts]


def test_a_stream_without_an_end_is_read_no_further_than_its_blocks_are_taken(stream):
    read = itertools.count()
    found = stream(str(next(read)) for _ in itertools.repeat(None))
    taken = 0
    for block in itertools.islice(found, 5):
        assert block[:, 0].tolist() == list(range(taken, taken + len(block)))
        taken += len(block)
    sent = len(stream.transport.requests)
    assert next(read) - taken <= 2 * WINDOW_TEXTS + 64
    found.close()
    assert len(stream.transport.requests) <= sent + IN_FLIGHT


def test_what_waits_for_a_late_reply_is_bounded_and_comes_behind_it(stream):
    sent_meanwhile = []

    def late_once(request):
        if "0" in texts_of(request) and not sent_meanwhile:
            sent_meanwhile.append(settled(lambda: len(stream.transport.requests)))  # the others have all been answered
            raise ServerBusy("full")
        return numbers(request)

    found = stream((str(i) for i in itertools.count()), late_once)
    assert next(found)[0, 0] == 0
    assert IN_FLIGHT < sent_meanwhile[0] <= 3 * WINDOW_TEXTS // 64 + 3  # a window's last batch may be a small one


def test_closing_gives_up_what_is_on_its_way(stream):
    release = threading.Event()
    begun = threading.Semaphore(0)

    def answer(request):
        if int(texts_of(request)[0]) >= WINDOW_TEXTS:
            begun.release()
            assert release.wait(PATIENCE)
        return numbers(request)

    found = stream([str(i) for i in range(10**5)], answer)
    assert len(next(found)) == WINDOW_TEXTS
    found.close()
    sent = len(stream.transport.requests)
    release.set()
    assert sent <= WINDOW_TEXTS // 64 + IN_FLIGHT
    assert len(stream.transport.requests) == sent and list(found) == []


def test_an_error_names_the_text_in_the_callers_order_behind_the_blocks_before_it(stream):
    wrong = str(2 * WINDOW_TEXTS + 5)

    def refuse(request):
        if wrong in texts_of(request):
            raise InvalidArgument.of_text(texts_of(request).index(wrong), ": is refused")
        return numbers(request)

    found = stream([str(i) for i in range(3 * WINDOW_TEXTS)], refuse)
    assert next(found).shape == (WINDOW_TEXTS, 1)
    with pytest.raises(InvalidArgument, match=f"^text {wrong}: is refused$"):
        list(found)
    texts = (str(i) if i != 5000 else "" for i in itertools.count())
    with pytest.raises(InvalidArgument, match="text 5000 is empty"):
        list(stream(texts))


def test_an_error_of_the_stream_itself_comes_through_behind_the_blocks_before_it(stream):
    def texts():
        yield from (str(i) for i in range(5000))
        raise KeyError("the reader's own")

    found = []
    with pytest.raises(KeyError, match="the reader's own"):
        found.extend(stream(texts()))
    assert np.concatenate(found)[:WINDOW_TEXTS, 0].tolist() == [*range(WINDOW_TEXTS)]


def test_the_time_that_a_block_is_used_for_is_no_waiting_for_an_answer(stream, clock):
    found = stream([str(i) for i in range(3 * WINDOW_TEXTS)], deadline=Deadline(60, clock, renewable=True))
    for block in found:
        assert len(block) == WINDOW_TEXTS
        clock.now += 1000


def test_a_timeout_bounds_all_of_it(stream, clock):
    found = stream([str(i) for i in range(3 * WINDOW_TEXTS)], deadline=Deadline(60, clock))
    next(found)
    clock.now += 100
    with pytest.raises(DeadlineExceeded, match=r"the timeout of 60 s passed.*; [\d,]+ of 12,288 texts were done"):
        list(found)


def test_blocks_have_the_precision_that_is_asked_for_and_the_priority_of_a_bulk(stream):
    (block,) = stream(["1", "-2"], precision="float16")
    assert block.dtype == np.float16 and block.tolist() == [[1], [-2]]
    assert [request.parameters for request in stream.transport.requests] == [{"bulk": True}]


async def test_an_asynchronous_stream_that_pauses_is_answered_meanwhile():
    answered = asyncio.Event()

    async def texts():
        for i in range(70):
            yield str(i)
        await answered.wait()
        yield "70"

    kind, rest = blocks({})
    job = kind.asked("bert", texts(), rest, asynchronous=True)
    found = []
    async for block in drive_blocks_async(job, AsyncFake(numbers), Deadline(PATIENCE)):
        found += block[:, 0].tolist()
        answered.set()
    assert found == list(range(71))


async def test_what_is_wrong_is_refused_when_the_iterator_is_made():
    with Client("grpc://127.0.0.1:1") as client:
        for texts, options, error, message in (
            (
                "a",
                {},
                InvalidType,
                r"encode_iter\(\) takes a collection or a stream of texts; encode\(\) takes a single",
            ),
            ([1], {}, InvalidType, "text 0 is int"),
            (["a"], {"pooling": "x"}, InvalidArgument, "pooling 'x' is not known"),
            (["a"], {"precision": "int8", "ranges": [1.0]}, InvalidArgument, r"ranges must be \[2, D\]"),
            (["a"], {"timeout": -1}, InvalidArgument, "timeout must be a positive"),
            (["a"], {"sentences": 1}, InvalidType, r"encode_iter\(\) has no argument sentences"),
        ):
            with pytest.raises(error, match=message):
                client.encode_iter(texts, **options)
            async with AsyncClient("grpc://127.0.0.1:1") as other:
                with pytest.raises(error, match=message):
                    other.encode_iter(texts, **options)


def test_a_bar_is_there_when_texts_are_sent_and_not_before(monkeypatch):
    bars = []
    bar = SimpleNamespace(update=bars.append, close=lambda: bars.append("closed"))
    monkeypatch.setattr("tqdm.auto.tqdm", lambda **options: bars.append(options) or bar)
    session = Session(make_settings("a", "bert"), "Client")
    session.encode_iter(["1"], {"show_progress": True})  # which is never used
    assert bars == []
    monkeypatch.setattr(session, "open", lambda: FakeTransport(numbers))
    assert len([*session.encode_iter(["1", "2"], {"show_progress": True})]) == 1
    assert bars[0]["total"] == 2 and bars[1:] == [2, "closed"]
