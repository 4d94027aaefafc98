"""When a step ends itself: the wall clock has jumped while Triton waited for a batch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import step_models

LONG = 1.0  # Triton gives up after that
LIFE = 0.3


class Clocks:
    """Stands in for `time`: the clocks go on when they are told to, and while the machine sleeps only the first.

    It also has the signs of life, of a thread that wakes up every LIFE while the process does not stand still.
    """

    def __init__(self) -> None:
        self.state = 1000.0, 0.0  # the wall clock, and how long the process has lived: they change together
        self.since_boot = 50.0
        self.others = 0

    def time(self) -> float:
        return self.state[0]

    def monotonic(self) -> float:
        return self.since_boot

    def signs(self, _thread: object) -> int:
        return int(self.state[1] / LIFE) + self.others

    def go_on(self, seconds: float, *, alive: bool = False, asleep: bool = False) -> None:
        wall, lived = self.state
        self.state = wall + seconds, lived + (seconds if alive else 0)
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
    monkeypatch.setattr(module, "signs", clocks.signs)
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


@pytest.mark.parametrize("seconds", [0.75, 0.9, 1, 1.2, 3, 5])
def test_a_process_whose_python_waits_shows_life(stalls: Any, clocks: Clocks, deaths: list[str], seconds: float):
    with stalls.batch():
        clocks.go_on(seconds, alive=True)  # in one call, which lets no other thread of Python in
    assert deaths == []


@pytest.mark.parametrize("before", [0.3, 0.75, 1, 2.9])
@pytest.mark.parametrize("after", [0, 0.3, 0.75, 1, 2.9])
def test_signs_of_life_before_and_after_do_not_hide_a_stall(
    stalls: Any, clocks: Clocks, deaths: list[str], before: float, after: float
):
    with stalls.batch():
        clocks.go_on(before, alive=True)
        clocks.go_on(LONG)
        clocks.go_on(after, alive=True)
    assert deaths == ["died"]


def test_what_a_thread_does_oftener_is_no_sign_of_life(stalls: Any, clocks: Clocks, deaths: list[str]):
    with stalls.batch():
        clocks.others += 100
        clocks.go_on(LONG)
    assert deaths == ["died"]


def test_signs_are_counted_of_the_thread_that_was_started_first() -> None:
    """In a process of its own, whose threads sleep so long, and which the system tells nothing of the others."""
    stalls = step_models.load("tokenizer")["stalls"]
    program = f"""
import importlib.util, os, threading, time
spec = importlib.util.spec_from_file_location("stalls", {stalls.__file__!r})
stalls = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stalls)
print(stalls.signs(stalls.thread_of_life()))
for seconds in (0.02, 10):
    threading.Thread(target=lambda s=seconds: [time.sleep(s) for _ in range(1000)], daemon=True).start()
    time.sleep(0.01)
thread = stalls.thread_of_life()
before = stalls.signs(thread)
time.sleep(1)
print(stalls.signs(thread) - before)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    alone, counted = map(int, run.stdout.split())
    assert alone == 0
    assert 10 <= counted <= 50


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
        clocks.go_on(-3600)
    with stalls.batch():
        clocks.go_on(0.5)
    assert deaths == []
