"""What the encoder keeps of rows: the right one of each, within its room, for those outputs that are of one size."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from tests.support.encoder_step import load

caches, jobs = load("cache", "jobs")
POOLED, POOLER = (4, 8), (6,)


def make_job(ids: list[list[int]], outputs: tuple[str, ...] = ("pooled", "pooler_output"), types: int = 0) -> Any:
    """A job with these rows, padded on the right by zeros."""
    width = max(map(len, ids))
    padded = np.array([row + [0] * (width - len(row)) for row in ids], np.int32)
    mask = (padded > 0).astype(np.int32)
    shapes = {
        "pooled": (len(ids), *POOLED),
        "pooler_output": (len(ids), *POOLER),
        "token_embeddings": (len(ids), width, 8),
    }
    shapes["indices"] = (len(ids), 1)
    return jobs.Job(np.stack([padded, mask, mask * types, mask]), {name: shapes[name] for name in outputs})


def key(row: Any) -> bytes:
    found: bytes = row.inputs.tobytes()
    return found


def results(value: float) -> dict[str, Any]:
    return {"pooled": np.full(POOLED, value, np.float32), "pooler_output": np.full(POOLER, -value, np.float32)}


def keep(cache: Any, ids: list[int], value: float, **options: Any) -> None:
    (row,) = make_job([ids], **options).rows()
    cache.keep(key(row), results(value))


def test_rows_that_are_known_are_in_the_outputs_and_the_others_are_still_to_be_computed():
    cache = caches.Cache(1 << 20)
    keep(cache, [1, 2, 3], 3.0)
    keep(cache, [4], 4.0)
    job = make_job([[9, 9, 9, 9], [1, 2, 3], [7], [4]])
    cache.fill(job)
    assert (job.uncomputed, job.missing, [row.index for row in job.rows()]) == ({0, 2}, 2, [0, 2])
    assert [job.outputs["pooled"][row][0, 0] for row in range(4)] == [0, 3, 0, 4]
    assert [job.outputs["pooler_output"][row][0] for row in range(4)] == [0, -3, 0, -4]
    assert (cache.hits, cache.misses) == (2, 2)


def test_a_job_of_rows_that_are_all_known_is_whole():
    cache = caches.Cache(1 << 20)
    keep(cache, [1, 2], 1.0)
    job = make_job([[1, 2], [1, 2]])
    cache.fill(job)
    assert (job.missing, job.uncomputed, job.rows()) == (0, set(), [])


@pytest.mark.parametrize("changed", ["input_ids", "attention_mask", "token_type_ids", "pooling_mask"])
def test_all_that_the_network_reads_of_a_row_is_looked_at(changed):
    cache = caches.Cache(1 << 20)
    keep(cache, [1, 2, 3], 1.0)
    job = make_job([[1, 2, 3]])
    job.inputs[jobs.INPUTS.index(changed), 0, 1] ^= 1
    cache.fill(job)
    assert (cache.hits, cache.misses) == (0, 1)


def test_padding_is_not_looked_at():
    cache = caches.Cache(1 << 20)
    keep(cache, [1, 2, 3], 1.0)
    job = make_job([[1, 2, 3], [5] * 60])
    cache.fill(job)
    assert job.uncomputed == {1}


def test_an_entry_serves_only_the_outputs_that_it_has_and_grows():
    cache = caches.Cache(1 << 20)
    (row,) = make_job([[1, 2]]).rows()
    cache.keep(key(row), {"pooled": results(1.0)["pooled"]})
    job = make_job([[1, 2]])
    cache.fill(job)
    assert job.missing == 1
    cache.keep(key(row), {"pooler_output": results(1.0)["pooler_output"]})
    cache.fill(job)
    assert job.missing == 0 and job.outputs["pooled"][0, 0, 0] == 1


@pytest.mark.parametrize("output", ["token_embeddings", "indices"])
def test_outputs_whose_size_goes_by_the_text_are_neither_kept_nor_looked_for(output):
    cache = caches.Cache(1 << 20)
    (row,) = make_job([[1, 2]]).rows()
    cache.keep(key(row), {output: np.ones((2, 8), np.float32)})
    assert cache.size == 0
    keep(cache, [1, 2], 1.0)
    job = make_job([[1, 2]], ("pooled", output))
    cache.fill(job)
    assert (job.missing, cache.hits, cache.misses) == (1, 0, 0)


def test_the_least_recently_used_is_forgotten_and_its_room_is_free():
    one = caches.ENTRY_BYTES + 4 * 4 * 2 + 4 * (4 * 8 + 6)
    cache = caches.Cache(3 * one)
    for first in (1, 2, 3):
        keep(cache, [first, 9], float(first))
    cache.fill(make_job([[1, 9]]))  # used last
    keep(cache, [4, 9], 4.0)
    assert cache.size == 3 * one
    job = make_job([[1, 9], [2, 9], [3, 9], [4, 9]])
    cache.fill(job)
    assert job.uncomputed == {1}


def test_a_row_that_does_not_fit_by_itself_is_not_kept():
    cache = caches.Cache(100)
    keep(cache, [1], 1.0)
    assert cache.size == 0


def test_what_is_kept_is_a_copy():
    cache = caches.Cache(1 << 20)
    (row,) = make_job([[1]]).rows()
    whole = np.zeros((1000, *POOLED), np.float32)
    cache.keep(key(row), {"pooled": whole[0]})
    whole[:] = 7
    job = make_job([[1]], ("pooled",))
    cache.fill(job)
    assert job.outputs["pooled"][0, 0, 0] == 0


def test_threads_may_share_it():
    cache = caches.Cache(50 * 1000)
    wrong: list[Any] = []

    def work(seed: int) -> None:
        chance = np.random.default_rng(seed)
        for value in chance.integers(1, 200, 500).tolist():
            keep(cache, [value], float(value))
            job = make_job([[value]])
            cache.fill(job)
            if not job.missing and job.outputs["pooled"][0, 0, 0] != value:
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and 0 < cache.size <= cache.max_bytes
