"""Whatever is added, taken and awaited in whichever order: what must hold of the encoder's backlog."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.encoder_step import load
from tests.unit.conftest import Clock

backlogs, jobs = load("backlog", "jobs")
BUDGET = 40


@st.composite
def job_settings(draw: st.DrawFn) -> dict[str, Any]:
    """The lengths of a job's rows, in tokens, and its options."""
    return {
        "lengths": draw(st.lists(st.integers(0, 60), min_size=1, max_size=12)),
        "output": draw(st.sampled_from(["pooled", "token_embeddings"])),
        "bulk": draw(st.sampled_from([None, None, False, True])),
        "patience": draw(st.sampled_from([1.0, 3.0, 1e9])),
    }


class Rows(RuleBasedStateMachine):
    """A backlog beside what waits, what is computed and what is owed, kept in the plainest way."""

    @initialize(cores=st.integers(1, 3), max_rows=st.sampled_from([15, 1000]), max_bytes=st.sampled_from([4000, 10**9]))
    def begin(self, cores: int, max_rows: int, max_bytes: int) -> None:
        self.clock = Clock()
        self.backlog = backlogs.Backlog(cores, BUDGET, max_rows, max_bytes, self.clock)
        self.backlog.end()  # so that no `take` waits
        self.whole_cut = self.backlog.cut
        self.waiting: dict[bool, list[Any]] = {False: [], True: []}  # rows in the order in which they came
        self.computed: list[Any] = []
        self.owed: dict[Any, set[int]] = {}  # what is not settled, by job that is not answered
        self.started: set[Any] = set()
        self.seen: set[tuple[Any, int]] = set()
        self.refused, self.waited = 0, 0.0

    def make(self, lengths: list[int], output: str, **options: Any) -> Any:
        width = max(lengths)
        mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int32)
        shape = (len(lengths), 4, 2) if output == "pooled" else (len(lengths), width, 2)
        return jobs.Job(np.stack([mask] * 4), {output: shape}, clock=self.clock, **options)

    @rule(batch=st.lists(job_settings(), min_size=1, max_size=4))
    def add(self, batch: list[dict[str, Any]]) -> None:
        made = [job for job in (self.make(**each) for each in batch) if job.missing]  # as the step adds no other
        expected = set()
        for job in made:
            size, held = sum(map(len, self.waiting.values())), sum(other.bytes for other in self.owed)
            too_many = size and size + job.missing > self.backlog.max_rows
            if too_many or (held and held + job.bytes > self.backlog.max_bytes):
                expected.add(job)
                self.refused += job.missing
                continue
            long = sum(job.lengths) > backlogs.LONG_ROUNDS * self.backlog.cores * BUDGET
            self.waiting[long if job.bulk is None else job.bulk] += job.rows()
            self.owed[job] = set(job.uncomputed)
        failures = self.backlog.add(made)
        assert {*failures} == expected and all(error.code == "UNAVAILABLE" for error in failures.values())

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.waiting[False])
    @rule(fails=st.booleans())
    def take_what_is_not_bulk(self, fails: bool) -> None:
        self.take(False, fails)

    @precondition(lambda self: self.waiting[True])
    @rule(fails=st.booleans())
    def take_bulk(self, fails: bool) -> None:
        self.take(True, fails)

    def take(self, bulk: bool, fails: bool = False) -> None:
        """Takes a slice; with `fails` memory fails if rows must be cut for it."""

        def cut(rows: list[Any]) -> Any:
            self.whole_cut(rows)
            raise MemoryError

        self.backlog.cut = cut if fails else self.whole_cut
        found = self.backlog.take(bulk)
        assert found and not self.seen & {(row.job, row.index) for row in found}  # nothing is computed twice
        self.seen |= {(row.job, row.index) for row in found}
        late = [row for part in self.waiting.values() for row in part if self.is_late(row)]
        if late:  # at once, whoever takes, and with the reason
            assert {(row.job, row.index) for row in found} == {(row.job, row.index) for row in late}
            assert all(row.job.failure.code == "UNAVAILABLE" for row in late)
            self.refused += len(late)
        else:
            self.check_slice(found, bulk)
        for job in {row.job for row in found} - self.started:
            self.started.add(job)
            self.waited += self.clock.now - job.arrived
        gone = {(row.job, row.index) for row in found}
        for kind, rows in self.waiting.items():
            self.waiting[kind] = [row for row in rows if (row.job, row.index) not in gone]
        self.computed += found

    def is_late(self, row: Any) -> bool:
        return row.job not in self.started and row.job.arrived + row.job.patience <= self.clock.now

    def check_slice(self, found: list[Any], bulk: bool) -> None:
        places = {(row.job, row.index): place for place, row in enumerate(self.waiting[bulk])}
        taken = [places[row.job, row.index] for row in found]  # so it waited, and among those of this kind
        assert sum(row.length for row in found) <= BUDGET or len(found) == 1
        assert len({row.job.wants_tokens for row in found}) == 1
        assert all(row.job.failure is None for row in found)
        # The tokens that came before and are passed by are no more than are cut at once.
        passed = [row.length for place, row in enumerate(self.waiting[bulk][: max(taken)]) if place not in taken]
        assert sum(passed) < backlogs.ROUNDS * self.backlog.cores * BUDGET

    @precondition(lambda self: self.computed)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        row = self.computed.pop(data.draw(st.integers(0, len(self.computed) - 1)))
        self.owed[row.job].remove(row.index)
        is_last = not self.owed[row.job]
        assert self.backlog.settle(row) == is_last
        if is_last:
            self.backlog.release(row.job)
            del self.owed[row.job]

    @invariant()
    def what_it_counts_is_so(self) -> None:
        assert self.backlog.size == sum(map(len, self.waiting.values()))
        assert self.backlog.taken == len(self.computed)
        assert self.backlog.has_only([]) == (not any(self.waiting.values()) and not self.computed)
        assert self.backlog.held == sum(job.bytes for job in self.owed)
        assert self.backlog.refused == self.refused
        assert abs(self.backlog.waited - self.waited) < 1e-6

    def teardown(self) -> None:
        """What waits at the end is still handed out, and then nothing."""
        for kind in (False, True):
            while self.waiting[kind]:
                self.take(kind)
        assert self.backlog.take(False) is None and self.backlog.take(True) is None
        assert not any(self.waiting.values())


Rows.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)
test_what_must_hold_of_a_backlog = Rows.TestCase
