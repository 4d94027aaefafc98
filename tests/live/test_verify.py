"""`export --verify` on networks of every kind, against transformers on PyTorch."""

import json
import re

import pytest

from export.__main__ import main
from export.network.architectures.config import ACTIVATIONS
from export.network.parts import Parts
from tests.support import reference
from tests.support.checkpoints import late_interaction
from tests.support.checkpoints.bundles import write_google
from tests.support.checkpoints.folders import write_bert, write_tokenizer

CHECKPOINTS = [
    *({"act": act} for act in ACTIVATIONS if act != "tanh"),
    {"pooler": False},
    {"hidden": 48, "heads": 12, "layers": 2, "intermediate": 31},
    {"prefix": "bert.", "shards": 3},
    {"gamma_beta": True, "dtype": "float16"},
    {"lower_case": False},
    {"types": 2, "positions": 512},
    {"config": {"use_return_dict": False, "return_dict": False, "torchscript": True}},
    {
        "config": {
            "attribute_map": {},
            "num_labels": 3,
            "dtype": "bfloat16",
            "output_attentions": True,
            "_attn_implementation": "x",
        }
    },
    {"config": {"pad_token_id": -7, "chunk_size_feed_forward": 3, "rope_scaling": 5, "name_or_path": 7}},
    {"config": {"id2label": [], "problem_type": "none", "to_dict": 5, "output_hidden_states": False}},
]


@pytest.mark.parametrize("options", CHECKPOINTS, ids=str)
@pytest.mark.parametrize("layers", [["-1"], ["-2", "0"]], ids=str)
def test_every_output_equals_transformers(tmp_path, capsys, options, layers):
    write_bert(tmp_path / "checkpoint", **options)
    arguments = [
        str(tmp_path / "checkpoint"),
        "--repository",
        str(tmp_path / "repository"),
        "--layers",
        *layers,
    ]
    assert main([*arguments, "--verify"]) == 0
    assert "token_embeddings max |difference|" in capsys.readouterr().out


@pytest.mark.parametrize("pooling", ["weightedmean", "cls+mean_sqrt_len_tokens+weightedmean"])
def test_what_more_a_pooling_needs_equals_transformers(tmp_path, capsys, pooling):
    write_bert(tmp_path / "checkpoint")
    arguments = [str(tmp_path / "checkpoint"), "--repository", str(tmp_path / "repository"), "--pooling", pooling]
    assert main([*arguments, "--verify"]) == 0
    assert "pooled           max |difference|" in capsys.readouterr().out


def test_the_default_model_equals_transformers(tmp_path, capsys):
    assert main([str(reference.checkpoint()), "--repository", str(tmp_path), "--verify"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("token_embeddings", "pooled", "pooler_output"))


def test_of_an_int8_export_the_fp32_network_equals_transformers(tmp_path, capsys):
    write_bert(tmp_path / "checkpoint")
    arguments = [str(tmp_path / "checkpoint"), "--repository", str(tmp_path / "repository"), "--precision", "int8"]
    assert main([*arguments, "--verify"]) == 0
    out = capsys.readouterr().out
    assert out.index("token_embeddings max |difference|") < out.index("cosine to FP32")


@pytest.mark.parametrize("form", [late_interaction.write, late_interaction.write_stanford], ids=["modules", "stanford"])
def test_vectors_of_tokens_equal_those_of_torch(tmp_path, capsys, form):
    form(tmp_path / "checkpoint", **({} if form is late_interaction.write else {"metadata": None}))
    assert main([str(tmp_path / "checkpoint"), "--repository", str(tmp_path / "repository"), "--verify"]) == 0
    out = capsys.readouterr().out
    assert "bert_multi gives a vector of 16 numbers for each token" in out
    assert re.search(r"token_vectors +max \|difference\|", out)


@pytest.mark.parametrize("pooler", [True, False])
def test_a_checkpoint_in_googles_format_equals_transformers(tmp_path, capsys, pooler):
    weights = write_bert(tmp_path / "hugging", pooler=pooler)
    write_google(tmp_path / "google", weights, json.loads((tmp_path / "hugging/config.json").read_text()))
    write_tokenizer(tmp_path / "google", tokenizer_json=False)
    assert main([str(tmp_path / "google"), "--repository", str(tmp_path / "repository"), "--verify"]) == 0
    assert ("pooler_output" in capsys.readouterr().out) == pooler


def test_a_network_that_differs_is_not_exported(tmp_path, capsys, monkeypatch):
    write_bert(tmp_path / "checkpoint")
    monkeypatch.setattr(Parts, "activation", lambda self, _name, x: self.g.op("Relu", x))
    arguments = [str(tmp_path / "checkpoint"), "--repository", str(tmp_path / "repository"), "--verify"]
    assert main(arguments) == 1
    assert "differs from transformers' model by" in capsys.readouterr().err
    assert list((tmp_path / "repository").iterdir()) == []
