import os
import subprocess
import sys
from collections.abc import Iterable

import pytest

from perf.memory.samples import Samples, trend
from perf.processes import MIB, descendants, own_bytes, server_processes, shared_bytes
from perf.profile.client_times import CallTimes
from perf.profile.server_statistics import ModelTimes, between, read_counters
from perf.profile.spans import request_span, server_span
from perf.size import rates
from perf.size.command import linear_mixture, order_ratios
from perf.size.rates import Rate, in_order, one_long_call, repeated


def model_stats(name: str, requests: int, executions: int, milliseconds: tuple[int, int, int, int, int]) -> dict:
    names = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    durations = {
        phase: {"count": str(requests), "ns": str(value * 1_000_000)}
        for phase, value in zip(names, milliseconds, strict=True)
        if value  # the endpoint leaves out what is zero
    }
    return {"name": name, "version": "1", "execution_count": str(executions), "inference_stats": durations}


def family_times(whole: int) -> list[ModelTimes]:
    """Of an ensemble that took so many milliseconds, a tokenizer of 3 and an encoder of 15."""
    models = {"bert": (whole, 0, 0, 0, 0), "bert_tokenizer": (3, 1, 0, 2, 0), "bert_encoder": (15, 2, 1, 11, 1)}
    stats = [model_stats(name, 1, 1, milliseconds) for name, milliseconds in models.items()]
    counters = read_counters({"model_stats": stats})
    return [between({}, counters, name) for name in models]


def test_times_are_means_over_the_requests_between_two_looks() -> None:
    before = read_counters({"model_stats": [model_stats("m", 10, 5, (100, 10, 1, 80, 9))]})
    after = read_counters({"model_stats": [model_stats("m", 14, 7, (180, 14, 3, 148, 15))]})
    found = between(before, after, "m")
    assert (found.requests, found.executions, found.total) == (4, 2, 20)
    assert found.phases == {"queue": 1, "compute_input": 0.5, "compute_infer": 17, "compute_output": 1.5}


def test_versions_of_a_model_are_added_up_and_one_that_never_ran_is_zero() -> None:
    twice = [model_stats("m", 1, 1, (2, 0, 0, 2, 0)), model_stats("m", 3, 1, (4, 0, 0, 4, 0)), {"name": "idle"}]
    counters = read_counters({"model_stats": twice})
    assert counters["m"]["success_ns"] == 6_000_000
    assert between({}, counters, "idle").total == 0


def test_the_parts_of_a_request_add_up() -> None:
    client = CallTimes(
        whole=[0.030, 0.034],
        before_message=[0.001, 0.001],
        message=[0.002, 0.002],
        reply=[0.001, 0.003],
        after_reply=[0.001, 0.001],
    )
    ensemble, *steps = family_times(20)
    request = request_span("a text", client, (0.001, 0.002), ensemble, steps)
    spans = {span.name: span for _, span in request.walk()}
    assert request.milliseconds == pytest.approx(32)
    assert spans["client, before"].milliseconds == pytest.approx(4)
    assert spans["client, after"].milliseconds == pytest.approx(5)
    assert spans["network and gRPC"].milliseconds == pytest.approx(3)
    assert spans["between the steps"].milliseconds == pytest.approx(2)
    for _, span in request.walk():
        if span.parts:
            assert sum(part.milliseconds for part in span.parts) == pytest.approx(span.milliseconds)


@pytest.mark.parametrize(("whole", "after", "overlap"), [(30, 12, 0), (17, 0, -1)])
def test_what_no_step_counts_is_the_work_of_a_step_that_answers_late(whole: int, after: int, overlap: int) -> None:
    ensemble, *steps = family_times(whole)
    server = server_span(ensemble, steps, late="bert_encoder")
    tokenizer, encoder, rest = server.parts
    assert (tokenizer.milliseconds, encoder.milliseconds) == (3, 15 + after)
    phases = {part.name: part.milliseconds for part in encoder.parts}
    assert phases == {"queue": 2, "input": 1, "compute": 11 + after, "output": 1}
    assert (rest.name, rest.milliseconds) == ("overlap of the steps", overlap)


def test_a_rate_is_the_median_of_its_calls() -> None:
    rate = Rate(100, 0, 100, (1.0, 4.0, 2.0))
    assert (rate.texts_per_second, rate.least, rate.most) == (50, 25, 100)


class Clock:
    """In the place of the module `time`: it goes on when it is told to, and nothing else takes time."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(rates, "time", Clock())
    return rates.time  # type: ignore[return-value]


def test_calls_are_repeated_until_the_time_is_used_up_and_made_once_if_there_is_none(clock: Clock) -> None:
    assert 19 <= len(repeated(lambda texts: clock.sleep(0.01), ["a"], 0.2)) <= 20
    assert len(repeated(lambda texts: clock.sleep(0.01), ["a"], 0)) == 1


def test_a_long_call_gets_no_more_texts_when_its_time_is_over(clock: Clock) -> None:
    def encode(texts: Iterable[str]) -> None:
        for _ in texts:
            clock.sleep(0.001)

    done, seconds = one_long_call(encode, ["a", "b"], 1_000_000, 0.1)
    assert 99 <= done <= 102
    assert seconds == pytest.approx(0.001 * done)
    assert one_long_call(encode, ["a", "b"], 5, 10)[0] == 5


def test_requests_in_order_hold_the_texts_as_they_stand() -> None:
    sent: list[list[str]] = []
    in_order(sent.append, list("abcde"), 2, 1)
    assert sent == [["a", "b"], ["c", "d"], ["e"]]


def test_a_mixture_is_compared_with_its_parts() -> None:
    rates = [Rate(0, 16, 100, (1.0,)), Rate(50, 72, 100, (3.0,)), Rate(100, 128, 100, (3.0,))]
    assert linear_mixture(rates) == pytest.approx([100, 50, 100 / 3])
    assert linear_mixture(rates[1:]) == []


def test_shuffled_is_compared_with_sorted_for_each_way() -> None:
    rates = [
        Rate(0, 0, 90, (1.0,), "one call, shuffled"),
        Rate(0, 0, 90, (2.0,), "in order, shuffled"),
        Rate(0, 0, 90, (0.9,), "one call, sorted"),
        Rate(0, 0, 90, (1.0,), "in order, sorted"),
    ]
    assert order_ratios(rates) == pytest.approx({"one call": 0.9, "in order": 0.5})


def test_growth_after_the_warm_up_is_told_from_growth_before() -> None:
    seconds = [float(second) for second in range(601)]
    filling = [min(500.0, 100 + 10 * second) for second in seconds]
    leaking = [500 + second / 20 for second in seconds]
    assert trend(seconds, filling, 120).is_flat
    found = trend(seconds, leaking, 120)
    assert found.per_minute == pytest.approx(3)
    assert found.minutes == pytest.approx(8)
    assert not found.is_flat
    assert trend(seconds, leaking[::-1], 120).is_flat


def test_a_series_that_comes_later_began_with_nothing() -> None:
    samples = Samples()
    samples.add(0.0, {"a": 1.0})
    samples.add(1.0, {"a": 2.0, "b": 5.0})
    samples.add(2.0, {"b": 6.0})
    assert samples.mib == {"a": [1.0, 2.0, 0.0], "b": [0.0, 5.0, 6.0]}
    assert samples.seconds == [0.0, 1.0, 2.0]


HOLDING = """
import mmap, os, sys
own = bytearray(os.urandom(1)) * (40 << 20)
shared = open("/dev/shm/" + sys.argv[1], "w+b")
shared.truncate(16 << 20)
mapped = mmap.mmap(shared.fileno(), 16 << 20)
mapped[: 8 << 20] = b"x" * (8 << 20)
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_process_is_found_and_its_shared_memory_is_not_counted_as_its_own() -> None:
    name = f"bert-on-triton-test-{os.getpid()}"
    child = subprocess.Popen([sys.executable, "-c", HOLDING, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        assert child.pid in descendants(os.getpid())
        assert 40 * MIB < own_bytes(child.pid) < 70 * MIB
        assert shared_bytes([child.pid, child.pid]) == 8 * MIB
        assert server_processes(child.pid) == {}
    finally:
        child.communicate()
        os.unlink(f"/dev/shm/{name}")
    assert own_bytes(child.pid) == 0
