from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.tokenizer_step import long_turns, request_parameters


class Turns:
    """LongTurns whose jobs take `turns`, and what was done in which order."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.errors: dict[str, BaseException | None] = {}
        self.ended = threading.Semaphore(0)
        self.may_begin = threading.Event()
        self.turns = long_turns.LongTurns(self.advance, self.finish)

    def put(self, name: str, turns: int, size: int = 1, failure: Callable[[], None] | None = None) -> None:
        self.turns.put(SimpleNamespace(name=name, turns=turns, size=size, failure=failure))

    def advance(self, job: Any) -> bool:
        assert self.may_begin.wait(30)
        self.seen.append(job.name)
        if job.failure:
            job.failure()
        job.turns -= 1
        return job.turns == 0

    def finish(self, job: Any, error: BaseException | None) -> None:
        self.errors[job.name] = error
        self.ended.release()
        if job.name == "cannot be sent":
            raise RuntimeError(job.name)

    def wait(self, count: int) -> None:
        self.may_begin.set()
        for _ in range(count):
            assert self.ended.acquire(timeout=30)


@pytest.fixture
def turns():
    made = Turns()
    yield made
    made.may_begin.set()
    made.turns.end()


def test_a_short_job_is_done_between_the_turns_of_a_long_one(turns):
    turns.put("long", 1000)
    turns.put("short", 2)
    turns.put("other", 3)
    turns.wait(3)
    assert turns.seen[:8] == ["long", "short", "other"] * 2 + ["long", "other"]
    assert list(turns.errors) == ["short", "other", "long"]


def test_whatever_a_job_raises_is_its_own_and_the_thread_goes_on(turns):
    class PanicException(BaseException):
        """As tokenizers' own."""

    def panic() -> None:
        raise PanicException("a regular expression gave up")

    turns.put("panics", 1, failure=panic)
    turns.put("cannot be sent", 1)
    turns.put("good", 2)
    turns.wait(3)
    assert isinstance(turns.errors.pop("panics"), PanicException)
    assert turns.errors == {"cannot be sent": None, "good": None}


def test_memory_that_cannot_be_given_back_ends_no_thread(turns, monkeypatch):
    monkeypatch.setattr(long_turns.ctypes, "CDLL", None)
    for name in ("one", "another"):
        turns.put(name, 1)
        turns.wait(1)
    assert turns.errors == {"one": None, "another": None}


def test_no_more_bytes_wait_than_may_and_a_place_is_free_again_after_an_error(turns):
    def fail() -> None:
        raise MemoryError

    turns.put("as long as may be", 1, size=long_turns.MAX_WAITING_BYTES, failure=fail)
    with pytest.raises(
        request_parameters.Refused, match="long texts of .* wait to be tokenized, .* try again later"
    ) as r:
        turns.put("one too many", 1)
    assert r.value.code == "UNAVAILABLE"
    turns.wait(1)
    turns.turns.end()
    turns.turns.put(SimpleNamespace(size=long_turns.MAX_WAITING_BYTES))
