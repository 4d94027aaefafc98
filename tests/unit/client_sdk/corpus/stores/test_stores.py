"""What every store does, asked of the real ones: PostgreSQL, Qdrant in a directory, LanceDB and FAISS."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from client_sdk import InvalidArgument
from client_sdk.corpus import stores
from tests.support.corpora import DIMENSION, vectors_of, write_corpus
from tests.support.patience import PATIENCE
from tests.support.places import ROOT
from tests.support.stores import Kept, Row

ROWS = 48  # Qdrant's local mode waits for the disk at each
IDS = np.arange(ROWS) * 7
FIRST_BATCHES = """
import os, signal, sys
from client_sdk.corpus import stores

written = 0

def on_rows(rows):
    global written
    written += rows
    if written >= 24:
        os.kill(os.getpid(), signal.SIGKILL)

class Small:
    batch_bytes = 1024

    def __init__(self, destination):
        self.opened = destination.opened

checked = stores.checked
stores.checked = lambda url: Small(checked(url))
stores.load(sys.argv[1], sys.argv[2], on_rows=on_rows)
"""


def same(found: dict[int, Row], vectors: np.ndarray, ids: np.ndarray = IDS) -> None:
    assert sorted(found) == sorted(ids.tolist())
    for id_, vector in zip(ids.tolist(), vectors, strict=True):
        stored, title = found[id_]
        np.testing.assert_allclose(stored, vector, atol=1e-6)
        assert title in (f"title of {id_}", None)


def test_all_rows_are_there_and_the_nearest_are_numpys(store: Kept, tmp_path: Path):
    vectors, told = vectors_of(ROWS), []
    assert stores.load(write_corpus(tmp_path / "corpus", IDS, vectors), store.url, on_rows=told.append) == ROWS
    assert sum(told) == ROWS
    same(store.rows(), vectors)
    for question in vectors_of(3, seed=1):
        assert store.nearest(question, 10) == IDS[(-vectors @ question).argsort()[:10]].tolist()


def test_to_load_again_changes_nothing(store: Kept, tmp_path: Path):
    vectors = vectors_of(ROWS)
    corpus = write_corpus(tmp_path / "corpus", IDS, vectors)
    stores.load(corpus, store.url)
    assert stores.load(str(corpus), store.url) == ROWS
    same(store.rows(), vectors)


def test_a_corpus_of_no_rows_leaves_room_for_one_with_rows_and_what_was_there(store: Kept, tmp_path: Path):
    vectors = vectors_of(ROWS)
    none = write_corpus(tmp_path / "none", IDS[:0], vectors[:0], files=1)
    assert stores.load(none, store.url) == 0 and store.rows() == {}
    stores.load(write_corpus(tmp_path / "corpus", IDS, vectors), store.url)
    assert stores.load(none, store.url) == 0
    same(store.rows(), vectors)


def test_a_vector_that_has_changed_takes_the_place_of_the_old_one_and_others_stay(store: Kept, tmp_path: Path):
    vectors = vectors_of(ROWS)
    stores.load(write_corpus(tmp_path / "corpus", IDS, vectors), store.url)
    changed = slice(30, 60)
    ids, later = np.arange(60) * 7, np.concatenate([vectors, vectors_of(12, seed=2)])
    later[changed] = vectors_of(30, seed=3)
    stores.load(write_corpus(tmp_path / "later", ids[changed], later[changed]), store.url)
    same(store.rows(), later, ids)


def test_a_load_that_was_killed_is_ended_by_another(store: Kept, tmp_path: Path):
    vectors = vectors_of(ROWS)
    corpus = write_corpus(tmp_path / "corpus", IDS, vectors)
    command = [sys.executable, "-c", FIRST_BATCHES, str(corpus), store.url]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    stores.load(corpus, store.url)
    same(store.rows(), vectors)


def test_of_rows_with_the_same_id_the_last_one_is_kept(store: Kept, tmp_path: Path):
    ids, vectors = np.array([5, 6, 5, 7, 6]), vectors_of(5)
    assert stores.load(write_corpus(tmp_path / "corpus", ids, vectors, files=1), store.url) == 3
    same(store.rows(), vectors[2:], ids[2:])


def test_half_precision_is_kept(store: Kept, tmp_path: Path):
    vectors = vectors_of(ROWS, dtype=np.float16)
    stores.load(write_corpus(tmp_path / "corpus", IDS, vectors), store.url)
    found = store.rows()
    assert sorted(found) == IDS.tolist()
    for id_, vector in zip(IDS.tolist(), vectors, strict=True):
        np.testing.assert_allclose(found[id_][0], vector, atol=1e-3)
    question = vectors[17].astype(np.float32)
    assert store.nearest(question, 1) == [IDS[17]]


def test_vectors_of_another_model_are_refused(store: Kept, tmp_path: Path):
    vectors = vectors_of(ROWS)
    stores.load(write_corpus(tmp_path / "corpus", IDS, vectors), store.url)
    other = write_corpus(tmp_path / "other", IDS, vectors_of(ROWS, seed=4), model="minilm", identity="of minilm")
    with pytest.raises(InvalidArgument, match=r"has vectors of bert .*, not of minilm .*vectors of two models"):
        stores.load(other, store.url)
    same(store.rows(), vectors)


def test_vectors_of_another_length_are_refused(store: Kept, tmp_path: Path):
    vectors = vectors_of(ROWS)
    stores.load(write_corpus(tmp_path / "corpus", IDS, vectors), store.url)
    shorter = write_corpus(tmp_path / "shorter", IDS, np.ascontiguousarray(vectors[:, :5]))
    with pytest.raises(InvalidArgument, match="8.*5"):
        stores.load(shorter, store.url)
    same(store.rows(), vectors)


@pytest.mark.parametrize(("size", "reason"), [(DIMENSION, "nothing says of which model"), (3, "3.*8|nothing says")])
def test_what_others_have_filled_is_refused(store: Kept, tmp_path: Path, size: int, reason: str):
    store.add_another(size)
    with pytest.raises(InvalidArgument, match=reason):
        stores.load(write_corpus(tmp_path / "corpus", IDS, vectors_of(ROWS)), store.url)


def test_a_null_id_is_refused(store: Kept, tmp_path: Path):
    with pytest.raises(InvalidArgument, match="has a null in 'id'"):
        stores.load(write_corpus(tmp_path / "corpus", pa.array([1, None, 3]), vectors_of(3)), store.url)


def test_a_precision_that_a_store_cannot_hold_is_refused(store: Kept, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", IDS, vectors_of(ROWS, dtype=np.int8))
    with pytest.raises(InvalidArgument, match="cannot hold vectors of precision int8; it takes those of float32"):
        stores.load(corpus, store.url)
