import shutil

import pytest

from tests.conftest import fill
from tests.support.checkpoints.families import identities
from tests.support.checkpoints.folders import VOCABULARY, write_bert, write_json, write_modules


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    write_bert(folder)
    return folder


@pytest.fixture
def identity(tmp_path, folder):
    fill(tmp_path / "first", folder, "bert")
    return identities(tmp_path / "first")["identity.1"]


def test_an_identity_is_of_what_decides_a_vector_and_of_nothing_else(tmp_path, folder, identity):
    assert len(identity) == 32 and int(identity, 16)
    shutil.copytree(folder, tmp_path / "moved")
    for number, options in enumerate(
        ({}, {"backend": "onnxruntime"}, {"max_batch_size": 8}, {"threads": 1}, {"instances": 2}), start=1
    ):
        fill(tmp_path / str(number), tmp_path / "moved", "other", **options)
        assert identities(tmp_path / str(number), "other") == {"identity.1": identity}
    fill(tmp_path / "fifth", folder, "bert", version=5)
    assert identities(tmp_path / "fifth") == {"identity.5": identity}


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "cls"},
        {"normalize": True},
        {"max_seq_len": 16},
        {"layers": (-2, -1)},
        {"layers": (-2,)},
        {"precision": "fp16", "backend": "onnxruntime", "gpus": (0,)},
        {"precision": "int8", "least_cosine": -1.0},
    ],
)
def test_another_setting_is_another_identity(tmp_path, folder, identity, options):
    fill(tmp_path / "other", folder, "bert", **options)
    assert identities(tmp_path / "other")["identity.1"] != identity


def other_weights(folder):
    write_bert(folder, seed=1)


def another_activation(folder):
    write_bert(folder, act="relu")


def another_epsilon(folder):
    write_bert(folder, config={"layer_norm_eps": 1e-6})


def cased(folder):
    write_bert(folder, lower_case=False)


def words_in_another_order(folder):
    write_bert(folder, vocabulary=(*VOCABULARY[:-2], VOCABULARY[-1], VOCABULARY[-2]))


def a_prompt(folder):
    write_modules(folder, ("sentence_transformers.models.Pooling", {"pooling_mode": "mean"}))
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "find "}})


@pytest.mark.parametrize(
    "change", [other_weights, another_activation, another_epsilon, cased, words_in_another_order, a_prompt]
)
def test_another_checkpoint_is_another_identity(tmp_path, identity, change):
    write_bert(tmp_path / "changed")
    change(tmp_path / "changed")
    fill(tmp_path / "other", tmp_path / "changed", "bert")
    assert identities(tmp_path / "other")["identity.1"] != identity
