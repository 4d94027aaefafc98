from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client_sdk import InvalidArgument
from client_sdk.corpus import stores
from client_sdk.corpus.stores.finished import Corpus
from client_sdk.corpus.stores.payload import payloads
from tests.support.corpora import vectors_of, write_corpus


def test_batches_hold_no_more_bytes_than_asked_for_and_go_on_over_the_files(tmp_path: Path):
    vectors, ids = vectors_of(3000), np.arange(3000)
    corpus = Corpus.at(write_corpus(tmp_path, ids, vectors, files=7))
    batches = list(corpus.batches(20_000))
    assert [rows.columns.nbytes for rows in batches[:-1]] == pytest.approx([18_000] * (len(batches) - 1), rel=0.2)
    assert max(rows.columns.nbytes for rows in batches) <= 20_000
    np.testing.assert_array_equal(np.concatenate([rows.vectors for rows in batches]), vectors)
    assert [id_ for rows in batches for id_ in rows.ids.to_pylist()] == ids.tolist()
    assert [id_ for some in corpus.ids() for id_ in some.to_pylist()] == ids.tolist()


def test_a_row_larger_than_a_batch_goes_alone(tmp_path: Path):
    titles = {"title": ["short", "x" * 50_000, "short", "short"]}
    corpus = Corpus.at(write_corpus(tmp_path, [1, 2, 3, 4], vectors_of(4), others=titles, files=1))
    assert [len(rows.ids) for rows in corpus.batches(10_000)] == [1, 1, 2]


def test_what_a_corpus_says_of_itself_is_read(tmp_path: Path):
    vectors = vectors_of(4, dtype=np.float16)
    corpus = Corpus.at(write_corpus(tmp_path, list("abcd"), vectors, id_column="Id", similarity="dot", model="minilm"))
    assert (corpus.id_column, corpus.size, corpus.integer_ids, corpus.others) == ("Id", 8, False, ["title"])
    assert (corpus.origin.model, corpus.origin.similarity, corpus.origin.precision) == ("minilm", "dot", "float16")


def test_vectors_of_other_options_are_refused(tmp_path: Path):
    for name, options in (("plain", {}), ("prompted", {"prompt_name": "query"})):
        folder = write_corpus(tmp_path / name, [1, 2], vectors_of(2))
        job = {"identity": "of bert", "text_column": f"of {name}", "columns": [name], "ranges": None, **options}
        (folder / "corpus.json").write_text(json.dumps({"fingerprint": job}))
    stores.load(tmp_path / "plain", f"faiss:{tmp_path}/texts")
    stores.load(write_corpus(tmp_path / "elsewhere", [1, 2], vectors_of(2)), f"faiss:{tmp_path}/texts")
    with pytest.raises(InvalidArgument, match=r"options \{\}\), not of bert \(options \{'prompt_name': 'query'\}\)"):
        stores.load(tmp_path / "prompted", f"faiss:{tmp_path}/texts")


def test_a_corpus_whose_job_has_not_ended_is_refused(tmp_path: Path):
    folder = write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2))
    (folder / "corpus.json").write_text(json.dumps({"finished": False, "fingerprint": {}}))
    with pytest.raises(InvalidArgument, match="/corpus is of a job that has not ended: run it again"):
        stores.load(folder, f"faiss:{tmp_path}/texts")
    (folder / "corpus.json").write_text(json.dumps({"finished": True, "fingerprint": {}}))
    assert stores.load(folder, f"faiss:{tmp_path}/texts") == 2


def test_a_date_that_python_does_not_have_is_told():
    far = pa.record_batch({"at": pa.array([10**13], pa.timestamp("s"))})
    with pytest.raises(InvalidArgument, match=r"column 'at' has a timestamp\[s\] that Python has no value for"):
        payloads(far, ["at"])


def test_a_directory_without_files_is_refused(tmp_path: Path):
    with pytest.raises(InvalidArgument, match=r"has no vectors/\*.parquet"):
        stores.load(tmp_path, f"faiss:{tmp_path}/texts")


def test_a_file_of_another_model_among_them_is_refused(tmp_path: Path):
    write_corpus(tmp_path, [3, 4], vectors_of(2), files=1, identity="another", model="minilm")
    (tmp_path / "vectors" / "00000.parquet").rename(tmp_path / "vectors" / "00001.parquet")
    write_corpus(tmp_path, [1, 2], vectors_of(2), files=1)
    with pytest.raises(InvalidArgument, match=r"00001.parquet has vectors of minilm .*, not of bert"):
        Corpus.at(tmp_path)


def test_a_file_with_other_columns_among_them_is_refused(tmp_path: Path):
    write_corpus(tmp_path, [3, 4], vectors_of(2), files=1, others={})
    (tmp_path / "vectors" / "00000.parquet").rename(tmp_path / "vectors" / "00001.parquet")
    write_corpus(tmp_path, [1, 2], vectors_of(2), files=1)
    with pytest.raises(InvalidArgument, match=r"00001.parquet has other columns than .*00000.parquet"):
        Corpus.at(tmp_path)


@pytest.mark.parametrize("about", [None, "{", "[]", json.dumps({"id_column": "id"})])
def test_a_file_that_does_not_say_what_made_it_is_refused(tmp_path: Path, about: str | None):
    (tmp_path / "vectors").mkdir()
    table = pa.table({"id": [1]}).replace_schema_metadata(None if about is None else {"bert-on-triton": about})
    pq.write_table(table, tmp_path / "vectors" / "0.parquet")
    with pytest.raises(InvalidArgument, match="0.parquet is no file of a finished corpus"):
        Corpus.at(tmp_path)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path):
    (tmp_path / "vectors").mkdir()
    (tmp_path / "vectors" / "0.parquet").write_text("texts")
    with pytest.raises(InvalidArgument, match="0.parquet is no file of a finished corpus"):
        Corpus.at(tmp_path)


def test_a_file_that_ends_too_early_is_refused(tmp_path: Path):
    folder = write_corpus(tmp_path, np.arange(1000), vectors_of(1000), files=1)
    corpus, file = Corpus.at(folder), folder / "vectors" / "00000.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + bytes(len(whole) // 2) + whole[100 + len(whole) // 2 :])
    with pytest.raises(InvalidArgument, match="00000.parquet cannot be read: "):
        list(corpus.batches(1000))


@pytest.mark.parametrize(
    ("ids", "about", "reason"),
    [
        ([0.5, 1.5], {}, "ids of double in 'id': int64 and string are taken"),
        ([1, 2], {"id_column": "key"}, "not one column 'key', but id, title, vector"),
        ([1, 2], {"vector_column": "title"}, "no vectors of one length in 'title', but string"),
    ],
)
def test_columns_that_cannot_be_ids_and_vectors_are_refused(tmp_path: Path, ids: Any, about: Any, reason: str):
    write_corpus(tmp_path, ids, vectors_of(2), files=1)
    file = tmp_path / "vectors" / "00000.parquet"
    table = pq.read_table(file)
    known = {**json.loads(table.schema.metadata[b"bert-on-triton"]), **about}
    pq.write_table(table.replace_schema_metadata({"bert-on-triton": json.dumps(known)}), file)
    with pytest.raises(InvalidArgument, match=reason):
        Corpus.at(tmp_path)


def test_null_vectors_and_nulls_in_them_are_refused(tmp_path: Path):
    folder = write_corpus(tmp_path, [1, 2], vectors_of(2), files=1)
    file = folder / "vectors" / "00000.parquet"
    table = pq.read_table(file)
    for wrong, reason in ((None, "cannot be read: .*all lists"), ([0.5, None] + [0.5] * 6, "has a null in 'vector'")):
        vectors = pa.array([[0.5] * 8, wrong], pa.list_(pa.float32(), 8))
        pq.write_table(table.set_column(2, "vector", vectors).cast(table.schema), file)
        with pytest.raises(InvalidArgument, match=reason):
            list(Corpus.at(folder).batches(1000))


def test_values_become_json():
    columns = pa.record_batch(
        {
            "text": ["a"],
            "share": [float("nan")],
            "at": pa.array([1_767_355_200_000_000_001], pa.timestamp("ns", "UTC")),
            "day": [datetime.date(2026, 1, 2)],
            "price": [decimal.Decimal("1.50")],
            "raw": [b"\x00\xff"],
            "tags": [["a", None]],
            "more": [{"score": float("inf"), "on": datetime.date(2026, 1, 2)}],
            "none": pa.array([None], pa.bool_()),
        }
    )
    (row,) = payloads(columns, columns.schema.names)
    assert json.loads(json.dumps(row, allow_nan=False)) == {
        "text": "a",
        "share": None,
        "at": "2026-01-02T12:00:00+00:00",
        "day": "2026-01-02",
        "price": "1.50",
        "raw": "AP8=",
        "tags": ["a", None],
        "more": {"score": None, "on": "2026-01-02"},
        "none": None,
    }
    assert payloads(columns, []) == [{}]
