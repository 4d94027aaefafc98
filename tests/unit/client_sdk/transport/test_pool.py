import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from client_sdk import (
    AccessDenied,
    DeadlineExceeded,
    InvalidArgument,
    ModelNotFound,
    ServerBusy,
    ServerUnreachable,
    StepDied,
    VersionChanged,
)
from client_sdk._call.drive import drive
from client_sdk._call.kinds import VECTORS
from client_sdk._call.plan import IN_FLIGHT
from client_sdk._session import AsyncSession, Session
from client_sdk._settings import make_settings
from client_sdk._transport.base import InferRequest, Query
from client_sdk._transport.pool.members import BUSY_PAUSES, LOST_PAUSES, Pool
from client_sdk._transport.pool.transport import AsyncPoolTransport, PoolTransport
from client_sdk._transport.retry import Deadline, Retry
from tests.support.fake_transport import FakeTransport, texts_of
from tests.support.patience import PATIENCE

REQUEST = InferRequest("bert", [[b"1"]], ("EMBEDDING",))


def numbers(request):
    """A text is a number, and its vector holds it."""
    return {"EMBEDDING": np.array([[float(text)] for text in texts_of(request)], np.float32)}


def failing(error):
    def answer(request):
        raise error

    return answer


class Servers:
    """A pool of fake servers, and what becomes of single requests to it."""

    def __init__(self, answers, clock):
        self.transports = [FakeTransport(answer) for answer in answers]
        self.pool = Pool(self.transports, clock)

    def send(self):
        """The index of the server that took a request, and what it raised."""
        taken = None
        try:
            with self.pool.turn() as transport:
                taken = self.transports.index(transport)
                transport.infer(REQUEST, 1.0)
        except Exception as error:
            return taken, error
        return taken, None

    def next(self, count):
        """The servers that take the next requests."""
        return [self.send()[0] for _ in range(count)]


@pytest.fixture
def make(clock):
    return lambda *answers: Servers(answers, clock)


def test_requests_go_round(make):
    assert make(numbers, numbers, numbers).next(7) == [0, 1, 2, 0, 1, 2, 0]


def test_a_text_costs_what_the_model_with_the_longest_texts_computes_of_it(make):
    servers = make(numbers, numbers, numbers)
    assert servers.pool.max_seq_len("bert") is None
    for transport, tokens in zip(servers.transports, (512, 8192, 256), strict=True):
        transport.peer.note(Query("config", "bert"), {"parameters": {"max_seq_len": {"string_value": str(tokens)}}})
    assert servers.pool.max_seq_len("bert") == 8192


def test_the_server_with_the_least_to_do_is_next(make):
    servers = make(numbers, numbers)
    slow = servers.pool.take()  # the first server's, and it does not end
    assert servers.next(3) == [1, 1, 1]
    servers.pool.release(slow)
    assert sorted(servers.next(2)) == [0, 1]


@pytest.mark.parametrize("error", [ServerUnreachable("gone"), StepDied("x"), ModelNotFound("y")])
def test_a_server_that_failed_is_passed_over_for_a_while_and_then_tried_by_one_request(make, clock, error):
    servers = make(failing(error), numbers)
    assert servers.send() == (0, error)
    for pause in (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        assert servers.next(3) == [1, 1, 1]
        clock.now += 0.9 * pause
        assert servers.next(3) == [1, 1, 1]
        clock.now += 0.2 * pause
        assert sorted(servers.next(5)) == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("error", "asked"), [(ModelNotFound("y"), [1, 0, 1, 0]), (ServerUnreachable("gone"), [1, 1, 1, 1])]
)
def test_what_concerns_no_model_is_asked_of_a_server_that_lacks_one(make, error, asked):
    servers = make(failing(error), numbers)
    servers.send()
    found = []
    for _ in asked:
        turn = servers.pool.take(Query("statistics"))
        found.append(servers.transports.index(turn.transport))
        servers.pool.release(turn)
    assert found == asked
    assert servers.next(2) == [1, 1]  # texts still are not


def test_a_busy_server_is_passed_over_for_less(make, clock):
    servers = make(failing(ServerBusy("full")), numbers)
    servers.send()
    clock.now += 1.1 * BUSY_PAUSES[0]
    assert 0 in servers.next(2)
    assert BUSY_PAUSES[0] < LOST_PAUSES[0] and BUSY_PAUSES[1] < LOST_PAUSES[1]


def test_a_server_that_is_back_has_its_share_again(make, clock):
    servers = make(failing(ServerUnreachable("gone")), numbers)
    servers.send()
    servers.transports[0].answer = numbers
    clock.now += 1.1
    assert sorted(servers.next(6)) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("refusal", [VersionChanged("another model"), InvalidArgument("no")])
def test_a_server_that_is_back_and_refuses_a_request_has_its_share_again(make, clock, refusal):
    servers = make(failing(ServerUnreachable("gone")), numbers)
    servers.send()
    servers.transports[0].answer = failing(refusal)
    clock.now += 1.1
    assert sorted(servers.next(6)) == [0, 0, 0, 1, 1, 1]
    assert servers.pool._members[0].unreachable is None


def test_the_server_that_was_tried_for_all_is_waited_for(make, clock):
    servers = make(failing(ServerUnreachable("gone")), numbers)
    servers.send()
    clock.now += 1.1
    assert {servers.pool.take().failures for _ in range(2)} == {0, 1}
    assert servers.next(4) == [1, 1, 1, 1]


def test_requests_that_fail_together_count_as_one_failure(make, clock):
    servers = make(numbers, numbers)
    first = [turn for turn in (servers.pool.take() for _ in range(8)) if turn.transport is servers.transports[0]]
    assert len(first) == 4
    for turn in first:
        servers.pool.failed(turn, ServerUnreachable("gone"))
        servers.pool.release(turn)
    clock.now += 1.1 * LOST_PAUSES[0]
    assert 0 in servers.next(2)


def test_what_was_answered_before_a_failure_does_not_bring_a_server_back(make):
    servers = make(numbers, numbers)
    early, _, late = servers.pool.take(), servers.pool.take(), servers.pool.take()
    servers.pool.failed(late, ServerUnreachable("gone"))
    servers.pool.succeeded(early)
    for turn in (early, late):
        servers.pool.release(turn)
    assert servers.next(3) == [1, 1, 1]


def test_the_callers_own_mistake_is_no_failure_of_the_server(make):
    error = InvalidArgument("no")
    servers = make(failing(error), failing(error))
    assert servers.next(4) == [0, 1, 0, 1] and servers.pool.has_spare


def test_if_all_have_failed_the_first_to_resume_is_tried(make, clock):
    servers = make(failing(ServerUnreachable("gone")), failing(ServerUnreachable("gone")))
    servers.send()
    clock.now += 0.5
    servers.send()
    assert not servers.pool.has_spare
    assert servers.send()[0] == 0


def test_an_error_names_all_servers_when_none_can_be_reached(make):
    servers = make(failing(ServerUnreachable("no one")), failing(ServerUnreachable("no other")))
    assert str(servers.send()[1]) == "no one"
    assert str(servers.send()[1]) == "no one; no other"


def test_what_one_did_not_take_another_gets_at_once(make, clock):
    error = ServerUnreachable("gone")
    servers = make(failing(error), numbers)
    for transport in servers.transports:
        transport.peer.reached = False
    servers.send()
    assert Retry(Deadline(60, clock), servers.pool).pause_after(error) == 0


def test_if_no_server_was_ever_there_it_is_an_error_at_once(make, clock):
    error = ServerUnreachable("gone")
    servers = make(failing(error), failing(error))
    for transport in servers.transports:
        transport.peer.reached = False
    retry = Retry(Deadline(60, clock), servers.pool)
    servers.send()
    assert retry.pause_after(error) == 0
    servers.send()
    with pytest.raises(ServerUnreachable):
        retry.pause_after(error)


def drive_all(transport, texts, batch_size=10):
    job = VECTORS.job("bert", texts, {}, batch_size, False)
    drive(job, transport, Deadline(PATIENCE))
    return job.result()[:, 0].tolist()


def test_one_bulk_call_uses_all_servers_at_once():
    def answer(request):
        together.wait(PATIENCE)
        return numbers(request)

    transports = [FakeTransport(answer) for _ in range(3)]
    together = threading.Barrier(3 * IN_FLIGHT)
    texts = [str(i) for i in range(10 * 3 * IN_FLIGHT)]
    assert drive_all(PoolTransport(transports), texts) == list(range(len(texts)))
    assert [transport.most_flying for transport in transports] == [IN_FLIGHT] * 3


def test_a_bulk_call_goes_on_without_a_server_that_fails_in_the_middle():
    def failing_later(request):
        if len(transports[0].requests) > 5:
            raise ServerUnreachable("gone")
        return numbers(request)

    transports = [FakeTransport(failing_later), FakeTransport(numbers)]
    texts = [str(i) for i in range(1000)]
    assert drive_all(PoolTransport(transports), texts) == list(range(1000))
    assert len(transports[0].requests) <= 5 + 2 * IN_FLIGHT


# servers that are silent


class Hanging:
    """A pool of which nothing is asked but through `take`, and requests that may be given up."""

    def __init__(self, clock, servers=2):
        self.pool = Pool([FakeTransport(numbers) for _ in range(servers)], clock)
        self.given_up = []

    def take(self, timeout=60.0, patience=None):
        turn = self.pool.take(replace(REQUEST, patience=patience), timeout)
        turn.cancel = lambda: self.given_up.append(turn)
        return turn


def end(pool, turn):
    """What `PoolTransport` does with a request that was given up."""
    pool.failed(turn, turn.silence())
    pool.release(turn)


def test_a_silent_server_is_asked_and_if_it_is_silent_still_its_requests_go_to_another(clock):
    hanging = Hanging(clock)
    turn = hanging.take()
    assert hanging.pool.look_after() == []
    clock.now += 1.1
    assert hanging.pool.look_after() == [turn.member] and hanging.pool.look_after() == []
    hanging.pool.was_asked(turn.member, lives=False)
    assert hanging.given_up == [turn]
    end(hanging.pool, turn)
    assert isinstance(turn.silence(), DeadlineExceeded) and hanging.pool.has_spare
    assert turn.member not in {hanging.take().member for _ in range(6)}


def test_a_silent_server_that_answers_when_it_is_asked_keeps_its_requests(clock):
    hanging = Hanging(clock)
    turn = hanging.take()
    clock.now += 1.1
    hanging.pool.look_after()
    hanging.pool.was_asked(turn.member, lives=True)
    assert hanging.given_up == [] and hanging.pool.look_after() == []
    clock.now += 1.1
    assert hanging.pool.look_after() == [turn.member], "it is asked again"


@pytest.mark.parametrize("times", [{"timeout": 10.0}, {"timeout": 3600.0, "patience": 10.0}])
def test_a_server_that_lives_and_answers_no_request_loses_them_at_half_their_time(clock, times):
    hanging = Hanging(clock)
    turn = hanging.take(**times)
    for _ in range(5):
        clock.now += 1.1
        assert hanging.given_up == []
        for member in hanging.pool.look_after():
            hanging.pool._members[hanging.pool._members.index(member)].is_asked = False
    assert hanging.given_up == [turn]


def test_nothing_is_given_up_where_no_other_server_could_do_it(clock):
    hanging = Hanging(clock, servers=1)
    hanging.take()
    clock.now += 50
    assert hanging.pool.look_after() == [] and hanging.given_up == []


def test_a_server_that_was_silent_is_given_a_request_when_it_has_answered_and_not_before(clock):
    hanging = Hanging(clock)
    turn = hanging.take()
    clock.now += 1.1
    hanging.pool.look_after()
    hanging.pool.was_asked(turn.member, lives=False)
    end(hanging.pool, turn)
    for _ in range(3):
        clock.now += 31
        assert hanging.take().member is not turn.member
        assert turn.member in hanging.pool.look_after()
        hanging.pool.was_asked(turn.member, lives=False)
    clock.now += 31
    assert turn.member in hanging.pool.look_after()
    hanging.pool.was_asked(turn.member, lives=True)
    back = hanging.take()
    assert back.member is turn.member
    hanging.pool.succeeded(back)
    assert turn.member.pause == 0


def test_a_server_that_lets_a_request_expire_is_passed_over(clock):
    hanging = Hanging(clock)
    turn = hanging.take(timeout=0.2)
    clock.now += 0.2
    error = DeadlineExceeded("late")
    assert hanging.pool.failed(turn, error) is error
    hanging.pool.release(turn)
    assert turn.member not in {hanging.take().member for _ in range(4)}


def test_a_server_that_answered_others_meanwhile_is_not(clock):
    hanging = Hanging(clock)
    slow, _, quick = hanging.take(), hanging.take(), hanging.take()
    assert slow.member is quick.member
    clock.now += 0.1
    hanging.pool.succeeded(quick)
    hanging.pool.failed(slow, DeadlineExceeded("late"))
    for turn in (slow, quick):
        hanging.pool.release(turn)
    assert slow.member in {hanging.take().member for _ in range(4)}


def test_a_query_is_not_given_all_of_the_time_while_there_is_another_server(clock):
    hanging = Hanging(clock)
    assert hanging.pool.query_seconds(60) == 2.0 and hanging.pool.query_seconds(1) == 0.5
    hanging.pool.failed(hanging.take(), ServerUnreachable("gone"))
    assert hanging.pool.query_seconds(60) == 60


def test_a_request_for_one_model_goes_only_where_that_may_be(clock):
    hanging = Hanging(clock)
    one, other = hanging.pool._members
    for member, identity in ((one, "abc"), (other, "xyz")):
        config = {"max_batch_size": 64, "parameters": {"identity.1": {"string_value": identity}}}
        member.transport.peer.note(Query("config", "bert"), config)
    request = replace(REQUEST, identity="xyz")
    assert {hanging.pool.take(request).member for _ in range(5)} == {other}
    assert hanging.pool.has_spare_for(request)
    hanging.pool.failed(hanging.pool.take(request), ServerUnreachable("gone"))
    assert hanging.pool.has_spare and not hanging.pool.has_spare_for(request)
    with pytest.raises(VersionChanged, match="abc.*xyz"):
        hanging.pool.take(replace(REQUEST, identity="other"))


class Ready(FakeTransport):
    """Has these models, of one kind or another, and says so at once or to be awaited; keeps what it is asked."""

    def __init__(self, *models, asynchronous):
        super().__init__(numbers)
        self.models = models
        self.asynchronous = asynchronous
        self.is_closed = False
        self.asked = []

    def query(self, query, timeout):
        self.asked.append(query)

        async def later():
            return self.said(query)

        return later() if self.asynchronous else self.said(query)

    def said(self, query):
        if query.kind == "ready":
            return {"ready": query.model in self.models}
        if query.kind == "config" and self.is_closed:
            raise AccessDenied("the configuration")
        if query.model and query.model not in self.models:
            raise ModelNotFound(query.model)
        mark = {"splade": "max relu"} if "bert_sparse" in self.models else {"pooling": "", "normalize": ""}
        values = {"dimension": "9", "max_seq_len": "8", "layers": "[]", **mark}
        parameters = {name: {"string_value": value} for name, value in values.items()}
        return {"parameters": parameters, "versions": ["1"]}


DENSE, SPARSE = ["bert", "bert_pooling"], ["bert_sparse", "bert_pooling"]


def pool_of(servers, asynchronous, monkeypatch):
    transports = [Ready(*models, asynchronous=asynchronous) for models in servers]
    pool = (AsyncPoolTransport if asynchronous else PoolTransport)(transports)
    session = (AsyncSession if asynchronous else Session)(make_settings(["a", "b"], "bert"), "Client")
    monkeypatch.setattr(session, "open", lambda: pool)
    return session, pool


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ([DENSE, []], True),
        ([[], DENSE], True),
        ([SPARSE, []], True),
        ([[], [], SPARSE], True),
        ([["bert"], []], True),
        ([["bert_pooling"], ["bert_pooling"]], False),
        ([["other"], []], False),
    ],
)
def test_a_model_is_ready_if_any_server_has_it_be_it_of_one_kind_or_another(
    servers, expected, asynchronous, monkeypatch
):
    session, _ = pool_of(servers, asynchronous, monkeypatch)
    for _ in servers:  # whoever's turn it is
        found = session.is_ready(Deadline(PATIENCE))
        assert (asyncio.run(found) if asynchronous else found) is expected


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("models", "expected"), [(DENSE, True), (SPARSE, True), (["other"], False)])
def test_a_model_is_ready_though_its_configuration_is_closed(models, expected, asynchronous, monkeypatch):
    session, pool = pool_of([models], asynchronous, monkeypatch)
    pool.peer._members[0].transport.is_closed = True
    found = session.is_ready(Deadline(PATIENCE))
    assert (asyncio.run(found) if asynchronous else found) is expected


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("models", [DENSE, SPARSE])
def test_no_server_is_asked_for_what_a_family_of_its_kind_has_not(models, asynchronous, monkeypatch):
    session, pool = pool_of([models, models], asynchronous, monkeypatch)
    for ask in (session.is_ready, session.info):
        found = ask(Deadline(PATIENCE))
        assert asyncio.run(found) if asynchronous else found
    asked = [query.model for member in pool.peer._members for query in member.transport.asked]
    assert {*asked} == {"", *models} and asked.count("bert_pooling") == 2
    assert not any(member.pause for member in pool.peer._members)
