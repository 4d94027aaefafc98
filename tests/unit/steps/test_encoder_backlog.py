"""What waits in the encoder: whose turn it is, how it is cut, and that nothing of it is lost."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.support.encoder_step import load
from tests.support.patience import PATIENCE, wait_for
from tests.unit.conftest import Clock

backlogs, jobs = load("backlog", "jobs")
BUDGET = 384


def make_job(lengths: list[int], outputs: tuple[str, ...] = ("pooled",), **options: Any) -> Any:
    """A job with a row of each length, in tokens."""
    width = max(lengths, default=0)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int32)
    count = len(lengths)
    shapes = {"pooled": (count, 4, 32), "token_embeddings": (count, width, 32)}
    shapes |= {"indices": (count, 1), "weights": (count, 1)}
    return jobs.Job(np.stack([mask] * 4), {name: shapes[name] for name in outputs}, **options)


def make_backlog(cores: int = 2, max_rows: int = 4096, **options: Any) -> Any:
    return backlogs.Backlog(cores, BUDGET, max_rows, **options)


def take_all(backlog: Any, bulk: bool = False) -> list[list[Any]]:
    """The slices of all the rows that make way, or of the others, in their order."""
    backlog.end()
    return list(iter(lambda: backlog.take(bulk), None))


def test_slices_keep_to_the_budget_and_hold_every_row_once():
    chance = random.Random(0)
    backlog = make_backlog(cores=4)
    batch = [make_job([chance.randint(1, 256) for _ in range(chance.randint(1, 20))], bulk=False) for _ in range(40)]
    assert backlog.add(batch) == {}
    slices = take_all(backlog)
    assert all(sum(row.length for row in rows) <= BUDGET for rows in slices)
    seen = Counter((id(row.job), row.index) for rows in slices for row in rows)
    assert seen == Counter((id(job), index) for job in batch for index in range(len(job.lengths)))


def test_a_row_longer_than_the_budget_stands_alone():
    backlog = make_backlog()
    backlog.add([make_job([3, 500, 4])])
    assert [500] in [[row.length for row in rows] for rows in take_all(backlog)]


def test_rows_whose_tokens_are_wanted_stand_apart():
    backlog = make_backlog()
    backlog.add([make_job([9] * 10), make_job([9] * 10, ("token_embeddings",))])
    assert all(len({row.job.wants_tokens for row in rows}) == 1 for rows in take_all(backlog))


def test_rows_without_a_token_never_wait():
    job = make_job([0, 5, 0])
    assert [row.index for row in job.rows()] == [1] and job.missing == 1 and job.uncomputed == {1}


def test_bulk_rows_and_the_others_never_wait_for_each_other():
    backlog = make_backlog(cores=1)
    bulk, other, late = make_job([BUDGET] * 8, bulk=True), make_job([BUDGET] * 3, bulk=False), make_job([5])
    backlog.add([bulk, other])
    assert [backlog.take(kind)[0].job for kind in (True, False, True)] == [bulk, other, bulk]
    backlog.add([late])  # behind bulk rows that are cut already
    assert [rows[0].job for rows in take_all(backlog)] == [other, other, late]
    assert [rows[0].job for rows in take_all(backlog, bulk=True)] == [bulk] * 6


def test_a_long_request_makes_way_unless_it_says_otherwise():
    rounds = [BUDGET] * 2 * backlogs.LONG_ROUNDS  # of two cores
    for lengths, options, makes_way in (
        ([*rounds, 1], {}, True),
        ([*rounds, 1], {"bulk": False}, False),
        ([*rounds, 1], {"bulk": True}, True),
        (rounds, {}, False),
    ):
        backlog = make_backlog()
        job = make_job(lengths, **options)
        backlog.add([job])
        assert sum(map(len, take_all(backlog, bulk=makes_way))) == len(lengths)
        assert backlog.size == 0


def test_a_long_request_of_which_little_is_to_be_computed_does_not_make_way():
    backlog = make_backlog()
    job = make_job([BUDGET] * 8)
    job.uncomputed, job.missing = {3}, 1  # the others were known
    backlog.add([job])
    assert sum(map(len, take_all(backlog))) == 1


def test_the_next_batch_is_gathered_for_until_the_last_row_of_either_kind_is_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backlogs, "GATHER_SECONDS", 1e6)
    backlog = make_backlog()
    backlog.add([make_job([BUDGET], bulk=True), make_job([5])])
    gathering = threading.Thread(target=backlog.gather, daemon=True)
    gathering.start()
    assert len(backlog.take()) == 1
    assert gathering.is_alive() and backlog.size == 1
    assert len(backlog.take(bulk=True)) == 1
    gathering.join(PATIENCE)
    assert not gathering.is_alive() and not backlog.size


def test_what_waits_too_long_is_handed_out_first_with_its_failure_and_is_not_computed(clock: Clock):
    backlog = make_backlog(cores=1, clock=clock)
    patient = make_job([BUDGET] * 4, bulk=False, clock=clock)
    hasty = make_job([BUDGET] * 2, patience=0.2, clock=clock)
    backlog.add([patient, hasty])
    assert backlog.take()[0].job is patient
    clock.now += 0.5
    late = backlog.take()
    assert {row.job for row in late} == {hasty} and len(late) == 2
    assert str(hasty.failure).startswith("the request waited 0.5 s to be encoded, and may 0.2 s")
    assert hasty.failure.code == "UNAVAILABLE" and backlog.refused == 2
    assert [rows[0].job for rows in take_all(backlog)] == [patient] * 3 and patient.failure is None


def test_a_job_that_has_begun_is_finished_however_late_it_is(clock: Clock):
    backlog = make_backlog(cores=1, clock=clock)
    job = make_job([BUDGET] * 3, bulk=False, patience=0.2, clock=clock)
    backlog.add([job])
    backlog.take()
    clock.now += 60
    assert len(take_all(backlog)) == 2 and job.failure is None


def test_a_full_backlog_refuses_and_says_so():
    backlog = make_backlog(max_rows=10)
    first, second, third = make_job([3] * 8), make_job([3] * 3), make_job([3] * 2)
    failures = backlog.add([first, second, third])
    assert list(failures) == [second]
    assert str(failures[second]) == "8 texts wait to be encoded, and 10 may; try again later"
    assert backlog.size == 10 and backlog.refused == 3


def test_the_outputs_of_all_jobs_are_bounded_in_bytes():
    of_one = make_job([100] * 64, ("token_embeddings",)).bytes
    assert of_one == 64 * 100 * 32 * 4
    backlog = make_backlog(max_bytes=2 * of_one)
    batch = [make_job([100] * 64, ("token_embeddings",)) for _ in range(3)]
    failures = backlog.add(batch)
    assert list(failures) == [batch[2]] and "MB of vectors are being made" in str(failures[batch[2]])
    assert sum(map(len, take_all(backlog, bulk=True))) == 128  # computed, and not sent yet
    assert list(backlog.add([batch[2]])) == [batch[2]]
    backlog.release(batch[0])
    assert backlog.add([batch[2]]) == {}


def test_what_outputs_have_grown_to_is_counted_until_they_are_sent():
    backlog = make_backlog(cores=1, max_bytes=1000)
    job, other = (make_job([9] * 2, ("indices", "weights"), bulk=False) for _ in range(2))
    backlog.add([job])
    (rows,) = take_all(backlog)
    job.make_outputs()
    for row in rows:
        job.put("indices", row.index, np.arange(200, dtype=np.int32))
        job.put("weights", row.index, np.ones(200, np.float32))
        backlog.settle(row)
    assert backlog.held == job.size == 2 * 2 * 4 * 200
    assert list(backlog.add([other])) == [other]
    backlog.release(job)
    assert backlog.held == 0 and backlog.add([other]) == {}


def test_one_request_larger_than_the_bound_is_served_when_nothing_else_is_held():
    backlog = make_backlog(max_bytes=1)
    assert backlog.add([make_job([3], ("token_embeddings",))]) == {}


def test_a_job_is_settled_by_its_last_row_and_only_then():
    backlog = make_backlog(cores=1)
    job = make_job([BUDGET] * 3, bulk=False)
    backlog.add([job])
    rows = [row for part in take_all(backlog) for row in part]
    assert not backlog.has_only([])
    assert [backlog.settle(row) for row in rows] == [False, False, True]
    assert backlog.has_only([])


class Unlucky(list):
    """Rows that cannot be sorted."""

    def sort(self, **options: Any) -> None:
        raise MemoryError


def test_a_slice_is_all_there_is_while_no_other_row_waits_or_is_computed():
    backlog = make_backlog()
    backlog.add([make_job([40, 50])])
    rows = backlog.take()
    assert len(rows) == 2 and backlog.has_only(rows)
    backlog.add([make_job([60])])
    assert not backlog.has_only(rows)
    others = backlog.take()
    assert not backlog.has_only(rows) and not backlog.has_only(others)
    for row in rows:
        backlog.settle(row)
    assert backlog.has_only(others)


def test_rows_that_cannot_be_cut_are_handed_out_one_by_one(monkeypatch: pytest.MonkeyPatch):
    backlog = make_backlog()
    whole = backlog.cut
    monkeypatch.setattr(backlog, "cut", lambda rows: whole(Unlucky(rows)))
    backlog.add([make_job([3, 4, 5])])
    assert [[row.length for row in rows] for rows in take_all(backlog)] == [[3], [4], [5]]


def test_a_wrong_job_keeps_no_other_out():
    wrong = make_job([3])
    del wrong.lengths
    good = make_job([3])
    backlog = make_backlog()
    assert list(backlog.add([wrong, good])) == [wrong]
    assert backlog.size == 1 and backlog.take()[0].job is good


def test_no_more_threads_wake_up_than_there_are_rows_for_them(monkeypatch: pytest.MonkeyPatch):
    backlog = make_backlog(cores=16)
    looks: list[bool] = []  # of threads that are awake, by kind
    whole = backlog._has
    monkeypatch.setattr(backlog, "_has", lambda bulk: looks.append(bulk) or whole(bulk))
    threads = [threading.Thread(target=backlog.take, args=(kind,)) for kind in (False, True) * 16]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(looks) == len(threads))
    looks.clear()
    backlog.add([make_job([5, 6])])
    wait_for(lambda: not backlog.size)
    time.sleep(0.2)  # for those that wake up in vain
    assert 2 <= len(looks) <= 4 and not any(looks)
    backlog.end()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_many_threads_take_every_row_once():
    chance = random.Random(1)
    backlog = make_backlog(cores=4, max_rows=10**6)
    batch = [make_job([chance.randint(1, 99) for _ in range(9)], bulk=chance.random() < 0.5) for _ in range(200)]
    finished: list[Any] = []

    def work(bulk: bool) -> None:
        while (rows := backlog.take(bulk)) is not None:
            assert {row.job.bulk for row in rows} == {bulk}
            finished.extend(row.job for row in rows if backlog.settle(row))

    threads = [threading.Thread(target=work, args=(kind,)) for kind in (False, True) * 2]
    for thread in threads:
        thread.start()
    for start in range(0, 200, 10):
        assert backlog.add(batch[start : start + 10]) == {}
        backlog.gather()
    backlog.end()
    for thread in threads:
        thread.join()
    assert Counter(map(id, finished)) == Counter(map(id, batch))
    assert backlog.has_only([])
