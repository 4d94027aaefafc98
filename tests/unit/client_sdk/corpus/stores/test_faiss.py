"""What FAISS alone has; the rest is in test_stores.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from scipy.spatial import distance

from client_sdk import InvalidArgument
from client_sdk.corpus import stores
from tests.support.corpora import vectors_of, write_corpus
from tests.support.stores import Faiss


@pytest.fixture
def kept(tmp_path: Path) -> Faiss:
    return Faiss(tmp_path / "texts.faiss")


def test_to_load_again_writes_the_same_bytes_and_leaves_no_other_file(kept: Faiss, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", np.arange(50), vectors_of(50))
    stores.load(corpus, kept.url)
    before = kept.file.read_bytes()
    stores.load(corpus, kept.url)
    assert kept.file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "texts.faiss", "texts.faiss.json"]
    assert json.loads((tmp_path / "texts.faiss.json").read_text())["bert-on-triton"]["model"] == "bert"


def test_an_index_that_stays_as_it_is_is_not_written_again(kept: Faiss, tmp_path: Path):
    vectors = vectors_of(50)
    stores.load(write_corpus(tmp_path / "corpus", np.arange(50), vectors), kept.url)
    before = kept.file.stat().st_ino
    stores.load(write_corpus(tmp_path / "none", np.arange(0), vectors[:0], files=1), kept.url)
    assert kept.file.stat().st_ino == before


def test_a_load_that_fails_leaves_the_file_as_it_was(kept: Faiss, tmp_path: Path):
    stores.load(write_corpus(tmp_path / "corpus", np.arange(50), vectors_of(50)), kept.url)
    before = kept.file.read_bytes()

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stores.load(write_corpus(tmp_path / "corpus", np.arange(50), vectors_of(50, seed=1)), kept.url, on_rows=stop)
    assert kept.file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "texts.faiss", "texts.faiss.json"]


@pytest.mark.parametrize(
    ("similarity", "metric"),
    [("cosine", "cosine"), ("dot", lambda a, b: -a @ b), ("euclidean", "euclidean"), ("manhattan", "cityblock")],
)
def test_an_index_has_the_models_similarity(kept: Faiss, tmp_path: Path, similarity: str, metric: Any):
    vectors = vectors_of(50) * np.linspace(0.5, 2, 50, dtype=np.float32)[:, np.newaxis]
    stores.load(write_corpus(tmp_path / "corpus", np.arange(50), vectors, similarity=similarity), kept.url)
    question = vectors_of(1, seed=1)
    expected = distance.cdist(question, vectors, metric)[0].argsort()[:10]
    assert kept.nearest(question[0], 10) == expected.tolist()


def test_half_precision_takes_half_the_space(kept: Faiss, tmp_path: Path):
    stores.load(write_corpus(tmp_path / "corpus", np.arange(50), vectors_of(50, dtype=np.float16)), kept.url)
    assert faiss.downcast_index(kept.index().index).code_size == 2 * 8


def test_ids_that_are_strings_are_refused(kept: Faiss, tmp_path: Path):
    with pytest.raises(InvalidArgument, match="FAISS has ids of int64, and 'id' is of strings"):
        stores.load(write_corpus(tmp_path / "corpus", ["one", "two"], vectors_of(2)), kept.url)


def test_ids_that_do_not_fit_are_refused(kept: Faiss, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", np.array([1, 2**63], np.uint64), vectors_of(2))
    with pytest.raises(InvalidArgument, match="FAISS has ids of int64, and the corpus has larger ones"):
        stores.load(corpus, kept.url)


def test_a_file_that_is_no_index_is_refused_and_left(kept: Faiss, tmp_path: Path):
    kept.file.write_text("hello world")
    with pytest.raises(InvalidArgument, match="texts.faiss is no index that FAISS can read"):
        stores.load(write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2)), kept.url)
    assert kept.file.read_text() == "hello world"


def test_an_index_of_another_kind_is_refused(kept: Faiss, tmp_path: Path):
    faiss.write_index(faiss.IndexHNSWFlat(8, 16), str(kept.file))
    with pytest.raises(InvalidArgument, match="another kind than a load writes, IndexIDMap2 of IndexFlat, 8 numbers"):
        stores.load(write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2)), kept.url)


def test_half_precision_by_manhattan_is_refused(kept: Faiss, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2, dtype=np.float16), similarity="manhattan")
    with pytest.raises(InvalidArgument, match="cannot compare vectors of float16 by similarity manhattan"):
        stores.load(corpus, kept.url)
