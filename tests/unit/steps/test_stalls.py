"""When a step ends itself: the wall clock has jumped while Triton waited for a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import step_models

LONG = 1.0  # Triton gives up after that


class Clocks:
    """Stands in for `time`: the clocks go on when they are told to, and while the machine sleeps only the first."""

    def __init__(self) -> None:
        self.wall = 1000.0
        self.since_boot = 50.0
        self.used = 0.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.since_boot

    def process_time(self) -> float:
        return self.used

    def go_on(self, seconds: float, *, asleep: bool = False, busy: float = 0.0) -> None:
        self.used += busy
        self.wall += seconds
        self.since_boot += 0 if asleep else seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def deaths() -> list[str]:
    return []


@pytest.fixture
def stalls(clocks: Clocks, deaths: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Its thread looks whenever it does, which must make no difference."""
    module = step_models.load("tokenizer")["stalls"]
    monkeypatch.setattr(module, "time", clocks)
    monkeypatch.setattr(module, "die", lambda: deaths.append("died"))
    stalls = module.Stalls()
    yield stalls
    stalls.end()


@pytest.mark.parametrize("asleep", [False, True])
def test_a_stall_within_a_batch_ends_the_process_before_it_answers(
    stalls: Any, clocks: Clocks, deaths: list[str], asleep: bool
):
    with stalls.batch():
        clocks.go_on(LONG, asleep=asleep)
        assert deaths == []
    assert deaths == ["died"]


@pytest.mark.parametrize("noticed", [False, True])
def test_a_batch_that_may_have_waited_through_a_stall_is_not_answered(
    stalls: Any, clocks: Clocks, deaths: list[str], noticed: bool
):
    clocks.go_on(LONG)
    if noticed:
        stalls._look()
        clocks.go_on(0.1)
    with stalls.batch():
        pass
    assert deaths == ["died"]


def test_a_process_that_computes_does_not_stand_still(stalls: Any, clocks: Clocks, deaths: list[str]):
    with stalls.batch():
        clocks.go_on(3 * LONG, busy=LONG)  # in one call, which lets no other thread of Python in
    assert deaths == []


def test_what_comes_later_is_answered(stalls: Any, clocks: Clocks, deaths: list[str]):
    clocks.go_on(LONG)
    stalls._look()
    clocks.go_on(0.5)
    with stalls.batch():
        pass
    assert deaths == []


def test_a_batch_that_takes_long_is_no_stall_and_nor_is_a_clock_that_is_set_back(
    stalls: Any, clocks: Clocks, deaths: list[str]
):
    with stalls.batch():
        for _ in range(5):
            clocks.go_on(0.5)
            stalls._look()
        clocks.wall -= 3600
    with stalls.batch():
        clocks.go_on(0.5)
    assert deaths == []
