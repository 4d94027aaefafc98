"""The ranges of a family's vectors, which an export measures."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest

from export import ranges
from export.sentences import docstring_sentences, sample
from tests.conftest import fill
from tests.support.checkpoints.families import identities
from tests.support.checkpoints.folders import write_bert
from tests.support.places import ROOT


def found(repository: Path, version: int = 1) -> str:
    """What the pooling's config says."""
    text = (repository / "bert_pooling/config.pbtxt").read_text()
    written = re.search(rf'key: "ranges.{version}"\s+value {{\s+string_value: "([^"]+)"', text)
    assert written, text
    return written.group(1)


def test_sentences_are_some_of_the_documentation_and_the_same_every_time():
    some = sample(100)
    assert len(set(some)) == 100 and {*some} < {*docstring_sentences()}
    sample.cache_clear()
    assert sample(100) == some


def test_each_version_has_its_own_and_what_has_been_measured_stays(tmp_path, monkeypatch):
    for seed in (1, 2):
        write_bert(tmp_path / str(seed), seed=seed)
        fill(tmp_path / "r", tmp_path / str(seed), "bert", version=seed)
    one, two = found(tmp_path / "r"), found(tmp_path / "r", 2)
    assert one != two and {*identities(tmp_path / "r")} == {"identity.1", "identity.2"}
    least, largest = np.frombuffer(base64.b64decode(one), "<f4").reshape(2, -1)
    assert (least < largest).all() and np.isfinite([least, largest]).all()
    monkeypatch.delattr(ranges, "measured")
    fill(tmp_path / "r", tmp_path / "1", "bert", version=3)
    assert [found(tmp_path / "r", version) for version in (1, 2, 3)] == [one, two, one]


@pytest.mark.parametrize("options", [{"pooling": "cls"}, {"normalize": True}, {"max_seq_len": 8}])
def test_they_are_those_of_vectors_as_they_are_exported(tmp_path, options):
    write_bert(tmp_path / "checkpoint", seed=3)
    fill(tmp_path / "r", tmp_path / "checkpoint", "bert")
    fill(tmp_path / "other", tmp_path / "checkpoint", "bert", **options)
    assert found(tmp_path / "r") != found(tmp_path / "other")


def test_without_sentences_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr(ranges, "sample", lambda count: ())
    write_bert(tmp_path / "checkpoint", seed=4)
    fill(tmp_path / "r", tmp_path / "checkpoint", "bert")
    assert "ranges" not in (tmp_path / "r/bert_pooling/config.pbtxt").read_text()


def test_the_committed_family_has_them():
    least, largest = np.frombuffer(base64.b64decode(found(ROOT / "model_repository")), "<f4").reshape(2, 384)
    assert (least < largest).all() and 0.05 < np.abs([least, largest]).max() < 0.5
