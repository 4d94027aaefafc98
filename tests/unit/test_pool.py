import threading

import numpy as np
import pytest

from client_sdk import InvalidArgument, ModelNotFound, ServerBusy, ServerUnreachable, StepDied
from client_sdk._drive import drive
from client_sdk._job import VECTORS
from client_sdk._plan import IN_FLIGHT
from client_sdk._pool import BUSY_PAUSES, LOST_PAUSES, Pool
from client_sdk._pool_transport import PoolTransport
from client_sdk._retry import Deadline, Retry
from client_sdk._transport import InferRequest
from tests.patience import PATIENCE
from tests.unit.fake_transport import FakeTransport

REQUEST = InferRequest("bert", ["1"], ("EMBEDDING",))


def numbers(request):
    """A text is a number, and its vector holds it."""
    return {"EMBEDDING": np.array([[float(text)] for text in request.texts], np.float32)}


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
