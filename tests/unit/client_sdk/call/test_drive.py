import asyncio
import itertools
import threading
import time

import numpy as np
import pytest

from client_sdk import DeadlineExceeded, InvalidArgument, ServerBusy, ServerError, VersionChanged
from client_sdk._call.drive import drive
from client_sdk._call.drive_async import drive_async
from client_sdk._call.kinds import VECTORS
from client_sdk._call.plan import IN_FLIGHT, WINDOW_TEXTS, Batch
from client_sdk._transport.base import Reply
from client_sdk._transport.peer import TooManyTexts
from client_sdk._transport.retry import LONGEST_WAIT, Deadline
from tests.support.fake_transport import FakeTransport, texts_of
from tests.support.patience import PATIENCE, wait_for


class AsyncFake(FakeTransport):
    async def infer(self, request, timeout):
        return await asyncio.get_running_loop().run_in_executor(None, super().infer, request, timeout)

    async def query(self, query, timeout):
        return super().query(query, timeout)


def numbers(request):
    """A text is a number, and its vector holds it."""
    time.sleep(0.001)
    return {"EMBEDDING": np.array([[float(text)] for text in texts_of(request)], np.float32)}


@pytest.fixture(params=["blocking", "asynchronous"])
def run(request):
    """Drives texts through a fake transport whose answers are `answer(request)`: (result, transport)."""

    def run(
        texts,
        answer=numbers,
        *,
        batch_size=10,
        limit=64,
        timeout=PATIENCE,
        clock=time.monotonic,
        deadline=None,
        parameters=None,
    ):
        run.job = job = VECTORS.job("bert", texts, parameters or {}, batch_size, False)
        run.transport = FakeTransport(answer) if request.param == "blocking" else AsyncFake(answer)
        run.transport.limit = limit
        run.transport.identity = run.identity
        run.transport.max_seq_len = run.max_seq_len
        run.transport.prompt_length = run.prompt_length
        if request.param == "blocking":
            drive(job, run.transport, deadline or Deadline(timeout, clock))
        else:
            asyncio.run(drive_async(job, run.transport, deadline or Deadline(timeout, clock)))
        return job.result()

    run.identity = ""
    run.max_seq_len = 512
    run.prompt_length = 0
    return run


@pytest.mark.parametrize("wrap", [list, iter])
def test_results_are_in_the_callers_order(run, wrap):
    texts = [str(number) for number in np.random.default_rng(0).integers(0, 10**6, 5000)]
    assert run(wrap(texts))[:, 0].tolist() == [float(text) for text in texts]


def test_a_few_requests_are_on_their_way_at_once_and_no_more(run):
    together, sent = threading.Barrier(IN_FLIGHT), itertools.count()

    def answer(request):
        if next(sent) < IN_FLIGHT:  # the first answers wait for each other
            together.wait(PATIENCE)
        return numbers(request)

    run([str(i) for i in range(1000)], answer)
    assert run.transport.most_flying == IN_FLIGHT


def test_batches_obey_the_servers_limit(run):
    run([str(i) for i in range(100)], batch_size=64, limit=7)
    assert max(len(texts_of(request)) for request in run.transport.requests) == 7


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, 4), ({"batch_size": 64}, 64), ({"batch_size": 2}, 2), ({"parameters": {"max_seq_len": 1024}}, 32)],
)
@pytest.mark.parametrize("long", ["text", "prompt", "prompt_name"])
def test_long_texts_travel_in_requests_of_the_usual_cost_unless_the_caller_says_how_many(run, options, size, long):
    run.max_seq_len = 8192
    run.prompt_length = 10_000 if long == "prompt_name" else 0
    prompts = {"text": {}, "prompt": {"prompt": "p" * 10_000}, "prompt_name": {"prompt_name": "query"}}
    parameters = {**options.get("parameters", {}), **prompts[long]}
    texts = ["1" + " " * 20_000 if long == "text" else "1"] * 100
    run(texts, **{"batch_size": None, **options, "parameters": parameters})
    assert max(len(texts_of(request)) for request in run.transport.requests) == size


def test_a_prompt_that_takes_the_place_of_the_models_counts_instead_of_it(run):
    run.max_seq_len, run.prompt_length = 8192, 10_000
    run(["1"] * 100, batch_size=None, parameters={"prompt": ""})
    assert max(len(texts_of(request)) for request in run.transport.requests) == 64


def test_a_single_batch_is_sent_alone(run):
    assert run(["1", "2"]).shape == (2, 1)
    assert len(run.transport.requests) == 1 and run.transport.started == []


def test_a_busy_server_is_tried_again_without_holding_up_the_rest(run):
    refused = []

    def busy_once(request):
        if "3" in texts_of(request) and not refused:
            refused.append(request)
            raise ServerBusy("full")
        return numbers(request)

    assert run([str(i) for i in range(100)], busy_once)[:, 0].tolist() == list(range(100))
    assert len(run.transport.requests) == 11


def test_a_server_that_stays_busy_is_an_error_at_the_deadline(run):
    now = 0.0

    def clock():  # goes on when it is looked at
        nonlocal now
        now += 0.01
        return now

    def busy(request):
        raise ServerBusy("full")

    with pytest.raises(ServerBusy):
        run([str(i) for i in range(100)], busy, timeout=0.5, clock=clock)
    assert 0.4 < now < 0.7


def test_an_error_about_a_text_names_the_callers_index(run):
    def refuse(request):
        if "77" in texts_of(request):
            raise InvalidArgument.of_text(texts_of(request).index("77"), ": is refused")
        return numbers(request)

    with pytest.raises(InvalidArgument, match="^text 77: is refused$"):
        run([str(i) for i in range(100)], refuse)


def test_an_error_ends_the_call_and_what_has_not_begun(run):
    def broken(request):
        raise ServerError("broken")

    with pytest.raises(ServerError, match="broken"):
        run([str(i) for i in range(10_000)], broken)
    assert len(run.transport.requests) <= 2 * IN_FLIGHT


def test_a_deadline_says_how_far_the_call_came(run):
    def stuck(request):
        if "99" not in texts_of(request):
            return numbers(request)
        wait_for(lambda: "; 90 of 100 texts" in str(run.job.cut_short(DeadlineExceeded(""))))
        raise DeadlineExceeded("no answer")

    with pytest.raises(
        DeadlineExceeded, match=f"the timeout of {PATIENCE:g} s passed: no answer; 90 of 100 texts were done"
    ):
        run([str(i) for i in range(100)], stuck)


def test_a_wrong_text_late_in_a_stream_ends_the_call(run):
    with pytest.raises(InvalidArgument, match="text 5000 is empty"):
        run(str(i) if i != 5000 else "" for i in range(10_000))


def test_an_error_of_the_stream_itself_comes_through(run):
    def stream():
        yield from ("1" for _ in range(5000))
        raise KeyError("the reader's own")

    with pytest.raises(KeyError, match="the reader's own"):
        run(stream())


class Counted(str):
    """A str that knows how many of its kind are alive."""

    alive = most_alive = 0

    def __new__(cls, value):
        cls.alive += 1
        cls.most_alive = max(cls.most_alive, cls.alive)
        return super().__new__(cls, value)

    def __del__(self):
        Counted.alive -= 1


def test_a_stream_is_not_held_beyond_a_window(run):
    Counted.alive = Counted.most_alive = 0

    def forgetful(request):
        run.transport.requests.clear()
        return numbers(request)

    assert len(run((Counted(i) for i in range(5 * WINDOW_TEXTS)), forgetful, batch_size=64)) == 5 * WINDOW_TEXTS
    assert WINDOW_TEXTS <= Counted.most_alive < 2.5 * WINDOW_TEXTS


def test_two_versions_in_one_call_are_an_error_that_names_both(run):
    def replaced(request):
        return Reply(numbers(request), "1" if len(run.transport.requests) < 20 else "2")

    with pytest.raises(VersionChanged, match="versions 1 and 2 of model 'bert'.*model_version"):
        run([str(i) for i in range(1000)], replaced)


def test_a_version_is_asked_for_by_its_number():
    assert VECTORS.job("bert", ["1"], {}, 1, False, 3).request(Batch(["1"], [0])).version == "3"
    assert VECTORS.job("bert", ["1"], {}, 1, False).request(Batch(["1"], [0])).version == ""
    with pytest.raises(InvalidArgument, match="model_version must be at least 1"):
        VECTORS.job("bert", ["1"], {}, 1, False, 0)


@pytest.fixture
def five_seconds(clock):
    """Answers, each of which takes 5 s of the clock."""

    def answer(request):
        clock.now += 5
        return numbers(request)

    return answer


MANY = [str(i) for i in range(1000)]


def test_a_call_without_a_timeout_lasts_as_long_as_answers_come(run, clock, five_seconds):
    assert len(run(MANY, five_seconds, deadline=Deadline(60, clock, renewable=True))) == 1000
    assert clock.now > 100 + 60


def test_a_timeout_bounds_the_whole_call_and_says_how_far_it_came(run, clock, five_seconds):
    with pytest.raises(DeadlineExceeded, match=r"the timeout of 60 s passed.*; \d+ of 1,000 texts were done"):
        run(MANY, five_seconds, deadline=Deadline(60, clock))


def test_a_call_without_a_timeout_ends_when_no_answer_comes(run, clock):
    def silent(request):
        if "900" in texts_of(request):
            clock.now += 61
            raise DeadlineExceeded("the server did not answer in time")
        return numbers(request)

    with pytest.raises(DeadlineExceeded, match=r"60 s passed without an answer.*; \d+ of 901 texts were done"):
        run(MANY[:901], silent, batch_size=901, limit=50, deadline=Deadline(60, clock, renewable=True))


LONG = "1" + " " * 20_000


@pytest.mark.parametrize(
    ("texts", "options", "seconds"),
    [
        (["1"], {}, 60),
        ([LONG], {}, 60 + 10 * 20),  # which is sent before anything is known of the model
        ([LONG] * 2, {}, 60 + 10 * 2 * 8),
        ([LONG] * 100, {}, 60 + 10 * 16 * 8192 // 1000),  # four requests of four texts
        ([LONG] * 100, {"parameters": {"max_seq_len": 1000}}, 60 + 10 * 100),
        ([LONG] * 1000, {"batch_size": 64}, 3600),
        (["1"] * 100, {"parameters": {"prompt": LONG}}, 60 + 10 * 16 * 8192 // 1000),
    ],
)
def test_a_call_without_a_timeout_waits_for_an_answer_for_as_long_as_its_texts_may_take(
    run, clock, texts, options, seconds
):
    def silent(request):
        clock.now += 10
        raise DeadlineExceeded("the server did not answer in time")

    run.max_seq_len = 8192
    start = clock.now
    with pytest.raises(DeadlineExceeded, match=f"^{seconds} s passed without an answer"):
        run(texts, silent, **{"batch_size": None, **options}, deadline=Deadline(60, clock, renewable=True))
    assert seconds - 10 <= clock.now - start <= seconds + 60


def test_a_server_that_is_busy_with_long_texts_is_waited_for(run, clock):
    def busy(request):
        if clock.now - start < 300:
            clock.now += 100
            raise ServerBusy("the request waited to be encoded")
        return numbers(request)

    run.max_seq_len = 8192
    start = clock.now
    assert len(run([LONG] * 4, busy, batch_size=4, deadline=Deadline(60, clock, renewable=True))) == 4


def test_what_was_answered_is_not_waited_for(run, clock):
    def strict(request):
        if len(texts_of(request)) > 3:
            raise TooManyTexts("batch-size must be <= 3", 3)
        return numbers(request)

    for texts in (MANY[:5], MANY):
        run(texts, strict, deadline=(deadline := Deadline(60, clock, renewable=True)))
        assert deadline.awaited == 0


def test_a_request_that_expires_while_others_are_answered_is_sent_again(run, clock):
    expired = []

    def late_once(request):
        if "500" in texts_of(request) and not expired:
            expired.append(request)
            raise DeadlineExceeded("the server did not answer in time")
        return numbers(request)

    assert len(run(MANY, late_once, deadline=Deadline(60, clock, renewable=True))) == 1000


@pytest.mark.parametrize(("renewable", "longest"), [(True, LONGEST_WAIT), (False, 60.0)])
def test_a_request_does_not_expire_while_answers_to_others_put_off_the_end_of_the_call(run, clock, renewable, longest):
    """Or it would be computed again: for a pool alone is it known how long the call would wait for it."""
    assert len(run(MANY, deadline=Deadline(60, clock, renewable=renewable))) == 1000
    assert {*run.transport.timeouts} == {longest}
    assert {request.patience for request in run.transport.requests} == {60.0}


ENDED = r"^0.5 s passed without an answer.*; \d+ of 1,000 texts were done"


def test_a_call_ends_when_nothing_is_answered_any_more_though_its_requests_do_not():
    release = threading.Event()

    def silent(request):
        if "500" in texts_of(request):
            release.wait(PATIENCE)
        return numbers(request)

    try:
        with pytest.raises(DeadlineExceeded, match=ENDED):
            drive(VECTORS.job("bert", MANY, {}), FakeTransport(silent), Deadline(0.5, renewable=True))
    finally:
        release.set()


async def test_so_does_an_asynchronous_one():
    class Silent(AsyncFake):
        async def infer(self, request, timeout):
            if "500" in texts_of(request):
                await asyncio.Event().wait()
            return await super().infer(request, timeout)

    with pytest.raises(DeadlineExceeded, match=ENDED):
        await drive_async(VECTORS.job("bert", MANY, {}), Silent(numbers), Deadline(0.5, renewable=True))


@pytest.mark.parametrize("texts", [3, 1000])
def test_what_a_stream_takes_does_not_count_as_waiting_for_an_answer(run, clock, texts):
    def stream():
        for text in range(texts):
            clock.now += 100
            yield str(text)

    assert len(run(stream(), deadline=Deadline(60, clock, renewable=True))) == texts


def test_a_timeout_holds_while_a_stream_is_read(clock):
    pulled = []

    def stream():
        for text in MANY:
            pulled.append(text)
            clock.now += 1
            yield text

    with pytest.raises(DeadlineExceeded, match="the timeout of 3 s passed"):
        drive(VECTORS.job("bert", stream(), {}), FakeTransport(numbers), Deadline(3, clock))
    assert len(pulled) <= 4


async def test_an_event_loop_is_neither_blocked_by_a_stream_nor_kept_beyond_the_timeout():
    release, reached = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    readers = set()

    def stream():
        readers.add(threading.current_thread())
        yield "1"
        readers.add(threading.current_thread())
        loop.call_soon_threadsafe(reached.set)
        release.wait()
        yield "2"

    job = VECTORS.job("bert", stream(), {})
    call = asyncio.create_task(drive_async(job, AsyncFake(numbers), Deadline(1.0)))
    await reached.wait()  # the stream blocks, and this runs
    with pytest.raises(DeadlineExceeded, match="the timeout of 1 s passed"):
        await call
    assert len(readers) == 1 and readers != {threading.current_thread()}
    release.set()


@pytest.mark.parametrize("texts", [1, 10])
async def test_one_request_costs_an_event_loop_no_task(texts):
    class Direct(AsyncFake):
        async def infer(self, request, timeout):
            return Reply(numbers(request), "1")

    tasks = []

    def make(loop, work, **rest):
        tasks.append(work)
        return asyncio.Task(work, loop=loop, **rest)

    asyncio.get_running_loop().set_task_factory(make)
    job = VECTORS.job("bert", MANY[:texts], {}, asynchronous=True)
    await drive_async(job, Direct(numbers), Deadline(60))
    assert job.result()[:, 0].tolist() == [*map(float, MANY[:texts])]
    assert not tasks


async def test_one_request_is_given_up_with_its_call():
    given_up = asyncio.Event()

    class Silent(AsyncFake):
        async def infer(self, request, timeout):
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()

    call = asyncio.ensure_future(drive_async(VECTORS.job("bert", "1", {}), Silent(numbers), Deadline(60)))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert given_up.is_set()


async def test_an_asynchronous_stream_is_read_as_it_comes():
    first_answered = asyncio.Event()
    loop = asyncio.get_running_loop()

    def answer(request):
        loop.call_soon_threadsafe(first_answered.set)
        return numbers(request)

    async def stream():
        for i in range(20):
            yield str(i)
        await first_answered.wait()  # texts that are there are sent while others are waited for
        yield "20"

    job = VECTORS.job("bert", stream(), {}, 10, asynchronous=True)
    await drive_async(job, AsyncFake(answer), Deadline(60))
    assert job.result()[:, 0].tolist() == list(range(21))


async def test_an_error_of_an_asynchronous_stream_comes_through():
    async def stream():
        yield "1"
        raise KeyError("the reader's own")

    with pytest.raises(KeyError, match="the reader's own"):
        await drive_async(VECTORS.job("bert", stream(), {}, asynchronous=True), AsyncFake(numbers), Deadline(60))


@pytest.mark.parametrize(
    ("texts", "parameters", "bulk"),
    [
        (10, {}, None),
        (11, {}, True),
        (11, {"bulk": False}, False),
        (10, {"bulk": True}, True),
    ],
)
@pytest.mark.parametrize("wrap", [list, iter])
def test_a_call_of_several_requests_is_bulk_unless_it_says_otherwise(run, texts, parameters, bulk, wrap):
    run(wrap(MANY[:texts]), parameters=parameters)
    assert {request.parameters.get("bulk") for request in run.transport.requests} == {bulk}


def test_refused_texts_are_left_out_where_that_is_wanted():
    def refuse(request):
        for index, text in enumerate(texts_of(request)):
            if text.endswith("7"):
                raise InvalidArgument.of_text(index, ": is refused")
        return numbers(request)

    left_out = []
    job = VECTORS.job("bert", MANY[:100], {}, 10)
    job.leave_out = lambda position, reason: left_out.append((position, reason))
    drive(job, FakeTransport(refuse), deadline := Deadline(60))
    assert deadline.awaited == 0
    assert sorted(left_out) == [(position, ": is refused") for position in range(7, 100, 10)]


def test_a_call_that_has_taken_nothing_goes_on_with_the_model_that_is_there_now(run):
    refused = []

    def replaced(request):
        if len(refused) < 3:
            refused.append(request)
            run.transport.identity = "b"
            run.transport.peer.forget()
            raise VersionChanged("identity: another")
        return Reply(numbers(request), "1", "b")

    assert len(run([str(i) for i in range(1000)], replaced)) == 1000 and len(refused) == 3


def test_a_call_that_has_taken_something_does_not(run):
    def replaced(request):
        if len(run.transport.requests) < 20:
            return Reply(numbers(request), "1", "a")
        run.transport.identity = "b"
        run.transport.peer.forget()
        raise VersionChanged("identity: another")

    run.identity = "a"
    with pytest.raises(VersionChanged, match="replaced during the call: a answered first, and now grpc://fake:1 has b"):
        run([str(i) for i in range(1000)], replaced)


def test_a_batch_that_is_refused_as_too_large_is_cut(run):
    def strict(request):
        if len(texts_of(request)) > 3:
            raise TooManyTexts("batch-size must be <= 3", 3)
        return numbers(request)

    for count in (10, 100):
        assert run([str(i) for i in range(count)], strict)[:, 0].tolist() == list(range(count))


def test_a_single_text_that_is_refused_as_too_large_is_an_error(run):
    def none(request):
        raise TooManyTexts("batch-size must be <= 0", 0)

    for texts in (["1"], ["1", "2"]):
        with pytest.raises(InvalidArgument, match="batch-size"):
            run(texts, none)
