import pytest

from client_sdk import DeadlineExceeded, InvalidArgument, ServerBusy, ServerError, ServerUnreachable, StepDied
from client_sdk._transport.address import Address
from client_sdk._transport.peer import Peer
from client_sdk._transport.retry import FIRST_PAUSE, LONGEST_PAUSE, RECONNECT_PATIENCE, Deadline, Retry


@pytest.fixture
def peer():
    peer = Peer(Address("grpc", "host", 8001))
    peer.reached = True
    return peer


def pauses(retry, clock, error):
    """Each pause, slept on the clock, until the retries end with `error`."""
    while True:
        try:
            pause = retry.pause_after(error)
        except type(error):
            return
        clock.now += pause
        yield pause


def test_a_busy_server_is_tried_again_with_growing_pauses_until_the_deadline(clock, peer):
    deadline = Deadline(60, clock)
    found = list(pauses(Retry(deadline, peer, jitter=lambda: 1.0), clock, ServerBusy("busy")))
    assert found[:8] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])
    assert 0 < deadline.left() < FIRST_PAUSE


def test_pauses_are_jittered_by_half(clock, peer):
    assert Retry(Deadline(60, clock), peer, jitter=lambda: 0.0).pause_after(ServerBusy("")) == FIRST_PAUSE / 2


def test_a_long_call_may_try_for_days(clock, peer):
    assert sum(pauses(Retry(Deadline(86_400, clock), peer), clock, ServerBusy(""))) == pytest.approx(86_400, abs=0.1)


def test_a_dead_step_is_waited_for_until_the_deadline(clock, peer):
    deadline = Deadline(60, clock)
    assert sum(pauses(Retry(deadline, peer), clock, StepDied("dead"))) == pytest.approx(60, abs=0.1)


def test_a_lost_server_is_tried_again_for_a_while(clock, peer):
    total = sum(pauses(Retry(Deadline(600, clock), peer), clock, ServerUnreachable("gone")))
    assert RECONNECT_PATIENCE <= total < RECONNECT_PATIENCE + LONGEST_PAUSE


def test_a_server_that_never_answered_is_not_tried_again(clock, peer):
    peer.reached = False
    with pytest.raises(ServerUnreachable):
        Retry(Deadline(60, clock), peer).pause_after(ServerUnreachable("nothing listens"))


@pytest.mark.parametrize("error", [InvalidArgument("no"), ServerError("broken")])
def test_other_errors_are_not_tried_again(clock, peer, error):
    with pytest.raises(type(error)) as raised:
        Retry(Deadline(60, clock), peer).pause_after(error)
    assert raised.value is error


def test_the_deadline_raises_what_stood_in_the_way_last(clock, peer):
    retry = Retry(Deadline(60, clock), peer)
    retry.pause_after(ServerUnreachable("gone"))
    retry.pause_after(ServerBusy("starting"))
    with pytest.raises(ServerBusy, match="starting"):
        retry.pause_after(DeadlineExceeded("late"))


def test_a_pause_that_outlasts_the_deadline_ends_in_what_stood_in_the_way(clock, peer):
    retry = Retry(Deadline(60, clock), peer)
    assert retry.remaining() == 60
    retry.pause_after(ServerBusy("the queue is full"))
    clock.now += 61
    with pytest.raises(ServerBusy, match="the queue is full"):
        retry.remaining()
    late = Retry(Deadline(60, clock), peer)
    clock.now += 61
    with pytest.raises(DeadlineExceeded, match="60 s passed"):
        late.remaining()


def test_a_deadline_alone_names_the_timeout(clock, peer):
    with pytest.raises(DeadlineExceeded, match="the timeout of 2.5 s passed: no answer"):
        Retry(Deadline(2.5, clock), peer).pause_after(DeadlineExceeded("no answer"))


def test_nothing_is_attempted_after_the_deadline(clock):
    deadline = Deadline(2.5, clock)
    assert deadline.remaining() == 2.5
    clock.now += 2.5
    with pytest.raises(DeadlineExceeded, match="timeout of 2.5 s"):
        deadline.remaining()
