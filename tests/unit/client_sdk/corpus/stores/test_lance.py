"""What LanceDB alone has; the rest is in test_stores.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from client_sdk import InvalidArgument, ServerError
from client_sdk.corpus import stores
from tests.support.corpora import vectors_of, write_corpus
from tests.support.stores import Lance


@pytest.fixture
def kept(tmp_path: Path) -> Lance:
    return Lance(tmp_path / "lance")


def test_strings_are_ids_and_a_path_may_end_as_the_tables_directory(kept: Lance, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", ["one", "two"], vectors_of(2))
    stores.load(corpus, kept.url)
    stores.load(corpus, f"{kept.url}.lance")
    assert sorted(kept.rows()) == ["one", "two"]
    assert (tmp_path / "lance" / "texts.lance").is_dir()


def test_a_relative_path_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    stores.load(write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2)), "lance:lance/texts")
    assert sorted(Lance(tmp_path / "lance").rows()) == [1, 2]


def test_bits_are_found_by_their_hamming_distance(kept: Lance, tmp_path: Path):
    bits = np.random.default_rng(0).integers(0, 256, (50, 6), np.uint8)
    corpus = write_corpus(tmp_path / "corpus", np.arange(50), bits, precision="ubinary", dimension=48)
    stores.load(corpus, kept.url)
    distances = np.unpackbits(bits ^ bits[7], axis=1).sum(axis=1)
    found = kept.table().search(bits[7]).distance_type("hamming").limit(5).to_list()
    assert found[0]["id"] == 7 and [row["_distance"] for row in found] == np.sort(distances)[:5].tolist()


def test_what_was_loaded_in_pieces_is_joined(kept: Lance, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", np.arange(50), vectors_of(50))
    stores.load(corpus, kept.url)
    stores.load(corpus, kept.url)
    stores.load(corpus, kept.url)
    assert kept.table().stats()["fragment_stats"]["num_fragments"] == 1


def test_a_table_with_other_columns_is_refused(kept: Lance, tmp_path: Path):
    stores.load(write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2)), kept.url)
    corpus = write_corpus(tmp_path / "other", [1, 2], vectors_of(2), others={"year": [1, 2]})
    with pytest.raises(InvalidArgument, match="has columns id int64, title string, .* and the corpus id int64, year"):
        stores.load(corpus, kept.url)


def test_maps_are_refused_before_a_row_is_there(kept: Lance, tmp_path: Path):
    maps = pa.map_(pa.string(), pa.int64())
    for kind in (maps, pa.list_(maps), pa.struct({"inner": maps})):
        none = write_corpus(
            tmp_path / "none", np.arange(0), vectors_of(0), others={"more": pa.array([], kind)}, files=1
        )
        with pytest.raises(InvalidArgument, match="cannot hold column 'more' of .*map<.*: it takes no maps as"):
            stores.load(none, kept.url)
    assert not (tmp_path / "lance").exists()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match="LanceDB: "):
        stores.load(write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2)), f"lance://{tmp_path}/file/texts")
