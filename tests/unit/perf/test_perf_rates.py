import argparse
import threading

import pytest

from perf.compare.systems.server import free_port
from perf.failure import Failure
from perf.load import rates
from perf.load.command import add_arguments
from perf.load.open_loop import KNEE, Outcome, Sent, arrivals, knee, outcome, send_at
from perf.load.rate_plot import draw


def test_arrivals_are_a_poisson_process_and_always_the_same() -> None:
    moments = arrivals(50, 1000)
    gaps = [after - before for before, after in zip(moments, moments[1:], strict=False)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(1 / 50, rel=0.02)
    assert variance == pytest.approx(1 / 50**2, rel=0.05)
    assert moments[0] > 0 and moments[-1] < 1000
    assert moments == arrivals(50, 1000) != arrivals(50, 1000, seed=1)


def test_what_waits_for_a_caller_counts_as_waiting() -> None:
    """Of one caller: where it asks again only after an answer, the stall of the first request is one long latency."""
    stalled = threading.Event()

    def connect():
        def send(request: str) -> None:
            if not stalled.is_set():
                stalled.wait(0.5)
                stalled.set()

        return send

    sent = send_at([0.0, 0.1, 0.2], connect, ["text"], callers=1)
    assert [one.intended for one in sent] == [0.0, 0.1, 0.2]
    for one, least in zip(sent, (0.5, 0.4, 0.3), strict=True):
        assert one.ended - one.intended >= least - 0.01


def test_nobody_waits_for_the_answer_of_another() -> None:
    together = threading.Barrier(3)
    sent = send_at([0.0, 0.0, 0.0], lambda: lambda request: together.wait(), ["text"], callers=3)
    assert [one.error for one in sent] == [None] * 3


def test_requests_go_in_turn_and_an_error_is_counted() -> None:
    seen: list[str] = []

    def send(request: str) -> None:
        seen.append(request)
        if request == "b":
            raise ValueError("no")

    found = outcome(30, send_at([0.0, 0.01, 0.02], lambda: send, ["a", "b"], callers=1))
    assert seen == ["a", "b", "a"]
    assert (found.requests, found.errors) == (3, {"ValueError": 1})


def test_a_caller_that_cannot_connect_ends_the_measurement() -> None:
    def connect():
        raise ConnectionError("nobody is there")

    with pytest.raises(ConnectionError, match="nobody is there"):
        send_at([0.0], connect, ["text"], callers=2)


def test_latency_counts_from_the_intended_start() -> None:
    sent = [Sent(0.0, 0.0, 0.1), Sent(1.0, 3.0, 4.0), Sent(2.0, 2.0, 9.0, "ServerBusy")]
    found = outcome(1, sent)
    assert found.latency[50] == pytest.approx((100 + 3000) / 2)
    assert found.worst == pytest.approx(3000)
    assert found.late == pytest.approx(2000, rel=0.03)
    assert found.answered_per_second == pytest.approx(2 / 4)
    assert found.errors == {"ServerBusy": 1}


def measured(rate: float, p99: float, **errors: int) -> Outcome:
    return Outcome(rate, 100, rate, {50: p99 / 3, 95: p99 / 2, 99: p99}, 2 * p99, 0.1, errors)


@pytest.mark.parametrize(
    ("outcomes", "rate"),
    [
        ([measured(10, 10), measured(20, 15), measured(40, 10 * KNEE + 1)], 20),
        ([measured(20, 15), measured(10, 10)], 20),
        ([measured(10, 10), measured(20, 10, ServerBusy=1), measured(40, 10)], 10),
        ([measured(10, 10, ServerBusy=1)], None),
        ([outcome(0.01, []), measured(10, 10), measured(20, 15)], 20),
        ([outcome(0.01, [])], None),
    ],
)
def test_the_knee_is_the_last_rate_that_is_answered_as_soon_as_few(outcomes: list[Outcome], rate: float | None) -> None:
    assert knee(outcomes) == rate


def test_a_rate_at_which_nothing_is_answered_is_no_knee() -> None:
    assert knee([outcome(5, [Sent(0.0, 0.0, 1.0, "ServerBusy")])]) is None


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gateway"], "give --rate too"),
        (["--rate", "5", "--gateway", "http://localhost:8080"], "needs the address of the server"),
        (["--rate", "5", "--concurrency", "2"], "are for a closed loop"),
        (["--rate", "--batch-sizes", "1", "8"], "takes one"),
        (["--rate", "--url", "localhost:8001", "--gateway", "https://localhost"], "http://host:port, without TLS"),
        (["--rate", "--url", "localhost:8001", "--gateway", "http://localhost:x"], "http://host:port, without TLS"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(Failure, match=message):
        rates.checked(parsed(*words))


@pytest.mark.parametrize("word", ["0", "-1", "nan", "inf", "x"])
def test_a_rate_is_a_number_above_zero(word: str) -> None:
    with pytest.raises(SystemExit):
        parsed("--rate", word)


def test_a_gateway_that_is_away_or_refuses_is_told() -> None:
    with pytest.raises(Failure, match="the gateway: ConnectionRefusedError"):
        rates._answers("the gateway", rates._through(f"http://127.0.0.1:{free_port()}", "bert", [["a text"]]))


def test_the_picture_has_a_line_for_each_percentile_and_the_knee() -> None:
    found = {"one": [measured(10, 10), measured(20, 15)], "other": [measured(10, 12), measured(20, 100)]}
    figure = draw(found, {"one": 20.0, "other": None}, "bert", 1)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        *("p99, one", "p50, one", "knee: 20 requests/s", "p99, other", "p50, other"),
    ]
