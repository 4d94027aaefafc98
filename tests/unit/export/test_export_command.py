import json
import os
import shlex
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from safetensors.numpy import load_file, save_file
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.__main__ import main
from export.network import network
from export.network.layout import INPUTS, shape_of
from tests.support.checkpoints import plain_bert
from tests.support.checkpoints.architectures import CLASSIFIERS, write_classifier
from tests.support.checkpoints.folders import VOCABULARY, write_bert, write_json, write_modules, write_tokenizer
from tests.support.places import ROOT


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    write_bert(folder)
    return folder


@pytest.fixture
def run(tmp_path, checkpoint, capsys):
    """run(*options): exit status, standard output and error of an export of the checkpoint."""

    def run(*options: str, source=checkpoint):
        status = main([str(source), "--repository", str(tmp_path / "repository"), *options])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def parameters(tmp_path):
    """parameters(model): what its config.pbtxt says."""

    def parameters(model: str) -> dict[str, str]:
        text = (tmp_path / "repository" / model / "config.pbtxt").read_text()
        config = text_format.Parse(text, ModelConfig())
        return {key: value.string_value for key, value in config.parameters.items()}

    return parameters


def test_a_plain_bert_is_exported_with_mean_pooling_not_normalised(run, parameters, tmp_path):
    status, out, err = run()
    assert (status, err) == (0, "")
    assert "exported bert (version 1" in out
    serve = out.splitlines()[-1].removeprefix("serve it: ")
    assert shlex.split(serve)[:5] == [sys.executable, "-m", "client_sdk", "serve", "--model-repository"]
    assert shlex.split(serve)[5:] == [str(tmp_path / "repository")]
    assert parameters("bert_pooling")["pooling"] == "mean"
    assert parameters("bert_pooling")["normalize"] == "false"
    assert parameters("bert_tokenizer")["max_seq_len"] == "64"
    assert (tmp_path / "repository/bert_tokenizer/1/tokenizer.json").exists()


def test_the_line_that_serves_works_from_any_folder(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(checkpoint), "--repository", "my $models; it's"]) == 0
    serve = capsys.readouterr().out.splitlines()[-1].removeprefix("serve it: ")
    printed = subprocess.run(f"printf '%s|' {serve}", shell=True, capture_output=True, text=True, cwd="/").stdout
    assert printed.split("|")[-2] == str(tmp_path / "my $models; it's")


def test_a_missing_package_is_named_with_what_to_install():
    code = "import runpy, sys; sys.modules['onnx'] = None; runpy.run_module('export', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {sys.executable} has no onnx, which export needs: ")
    assert "pip install -e '.[export,server]'" in line


def test_the_encoder_of_a_network_with_another_head_is_exported_on_demand(run, checkpoint):
    write_bert(checkpoint, prefix="bert.", config={"architectures": ["BertForTokenClassification"]})
    status, _, err = run()
    assert status == 1 and "pass --encoder-only" in err
    assert run("--encoder-only")[0] == 0


def test_the_settings_of_sentence_transformers_are_taken_and_can_be_overruled(run, parameters, checkpoint):
    write_modules(
        checkpoint,
        ("sentence_transformers.models.Pooling", {"word_embedding_dimension": 32, "pooling_mode": "cls"}),
        ("sentence_transformers.models.Normalize", None),
        settings={"max_seq_length": 20},
    )
    write_json(checkpoint / "config_sentence_transformers.json", {"prompts": {"query": "find "}})
    assert run("--name", "own")[0] == 0
    assert parameters("own_pooling")["pooling"] == "cls" and parameters("own_pooling")["normalize"] == "true"
    assert parameters("own_tokenizer")["max_seq_len"] == "20"
    assert json.loads(parameters("own_tokenizer")["prompts"]) == {"query": "find "}
    assert run("--name", "new", "--pooling", "max", "--no-normalize", "--max-seq-len", "64")[0] == 0
    assert parameters("new_pooling")["pooling"] == "max" and parameters("new_pooling")["normalize"] == "false"
    assert parameters("new_tokenizer")["max_seq_len"] == "64"


def with_dense(checkpoint, modes, in_features, out_features=5):
    """Adds a Pooling of these modes and a Dense layer."""
    dense = {"in_features": in_features, "out_features": out_features, "bias": False}
    write_modules(
        checkpoint,
        ("sentence_transformers.models.Pooling", {"word_embedding_dimension": 32, "pooling_mode": modes}),
        ("sentence_transformers.models.Dense", dense),
    )
    save_file(
        {"linear.weight": np.ones((out_features, in_features), np.float32)},
        checkpoint / "2_Dense/model.safetensors",
    )


@pytest.mark.parametrize(("modes", "in_features"), [("mean", 32), ("cls", 32), (["mean", "max"], 64)])
def test_a_dense_layer_that_does_not_fit_the_layers_asked_for_is_refused(run, checkpoint, tmp_path, modes, in_features):
    with_dense(checkpoint, modes, in_features)
    status, _, err = run("--layers", "-2", "-1")
    assert status == 1 and f"takes vectors of length {in_features}" in err and f"gives it {2 * in_features}" in err
    assert not (tmp_path / "repository").exists()
    for options in (("--layers", "-2"), ("--layers", "-2", "-1", "--pooling", "last"), ("--pooling", "pooler")):
        assert run(*options)[0] == 0


def test_a_dense_layer_of_no_outputs_is_refused(run, checkpoint):
    with_dense(checkpoint, "mean", 32, out_features=0)
    status, _, err = run()
    assert status == 1 and "out_features is 0; a whole number above 0 is expected" in err


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_dense_layer_that_is_not_finite_is_refused(run, checkpoint, value):
    with_dense(checkpoint, "mean", 32)
    weight = np.ones((5, 32), np.float32)
    weight[4, 31] = value
    save_file({"linear.weight": weight}, checkpoint / "2_Dense/model.safetensors")
    status, _, err = run()
    assert status == 1 and "'linear.weight' has 1 of 160 values that are not finite" in err and "[4, 31]" in err


@pytest.mark.parametrize("options", ["", "--precision fp16 --backend onnxruntime --gpus all", "--precision int8"])
def test_weights_that_are_not_finite_are_refused_and_named(run, checkpoint, tmp_path, options):
    tensors = load_file(checkpoint / "model.safetensors")
    words = tensors["embeddings.word_embeddings.weight"].copy()
    words[-1, 3] = np.nan  # of a word that no check of the export uses
    save_file(tensors | {"embeddings.word_embeddings.weight": words}, checkpoint / "model.safetensors")
    status, _, err = run(*options.split())
    assert status == 1 and "weight 'embeddings.word_embeddings.weight' has 1 of" in err
    assert f"the first at [{len(words) - 1}, 3]" in err and not list((tmp_path / "repository").iterdir())


@pytest.mark.parametrize("layers", [["-2", "-1"], ["-2,-1"], ["0,1", "-1"]])
def test_layers_are_given_apart_or_with_commas(run, parameters, layers):
    assert run("--layers", *layers)[0] == 0
    assert json.loads(parameters("bert_pooling")["layers"]) == [int(i) for part in layers for i in part.split(",")]


def test_options_of_the_server_are_written(run, tmp_path):
    options = ("--backend", "onnxruntime", "--instances", "2", "--threads", "3", "--max-batch-size", "8")
    assert run(*options, "--version", "7")[0] == 0
    encoder = tmp_path / "repository/bert_encoder"
    config = text_format.Parse((encoder / "config.pbtxt").read_text(), ModelConfig())
    assert (config.backend, config.instance_group[0].count, config.max_batch_size) == ("onnxruntime", 2, 8)
    assert config.parameters["intra_op_thread_count"].string_value == "3"
    assert (encoder / "7/model.onnx").exists() and not (encoder / "1").exists()


def test_heads_and_other_tensors_are_skipped(run, tmp_path, checkpoint):
    extra = {
        "classifier.weight": np.ones((2, 32), np.float32),
        "cls.predictions.bias": np.ones(5, np.float32),
    }
    write_bert(checkpoint, prefix="bert.", extra=extra)
    status, out, _ = run()
    assert status == 0
    assert "skipped: classifier.weight and cls.predictions.bias (not part of the encoder)\n" in out


@pytest.mark.parametrize("layers", ["-1", "0"])
def test_nothing_is_said_of_what_is_left_out_on_purpose(run, checkpoint, layers):
    write_bert(checkpoint, extra={"embeddings.position_ids": np.arange(64)})
    assert "skipped" not in run("--layers", layers)[1]


def test_the_pooler_is_exported_only_where_it_can_be_computed(run, tmp_path, checkpoint):
    def outputs() -> list[str]:
        text = (tmp_path / "repository/bert_encoder/config.pbtxt").read_text()
        return [output.name for output in text_format.Parse(text, ModelConfig()).output]

    run()
    assert "pooler_output" in outputs()
    run("--layers", "-2")
    assert "pooler_output" not in outputs()
    run("--layers", "-2", "--pooling", "pooler")
    assert "pooler_output" in outputs()
    write_bert(checkpoint, pooler=False)
    run()
    assert "pooler_output" not in outputs()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layers", "3"), "layer 3 does not exist: this checkpoint has 3, so -3 to 2"),
        (("--max-seq-len", "65"), "--max-seq-len is 65; this checkpoint takes 3 to 64"),
        (("--max-seq-len", "2"), "--max-seq-len is 2; this checkpoint takes 3 to 64"),
    ],
)
def test_what_a_checkpoint_cannot_do_is_refused(run, tmp_path, options, message):
    status, _, err = run(*options)
    assert status == 1 and err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert not (tmp_path / "repository").exists()


def test_pooling_by_a_pooler_that_is_not_there_is_refused(run, checkpoint):
    write_bert(checkpoint, pooler=False)
    status, _, err = run("--pooling", "pooler")
    assert status == 1 and "has no pooler" in err


def test_a_pooling_that_cannot_be_expressed_needs_one_to_be_chosen(run, parameters, checkpoint):
    write_modules(
        checkpoint,
        (
            "sentence_transformers.models.Pooling",
            {"word_embedding_dimension": 32, "pooling_mode": "median"},
        ),
    )
    status, _, err = run()
    assert status == 1 and "median" in err and "--pooling" in err
    assert run("--pooling", "mean")[0] == 0
    assert parameters("bert_pooling")["pooling"] == "mean"


@pytest.mark.parametrize(
    ("given", "written", "reductions"),
    [
        ("lasttoken", "last", None),
        ("mean+max", "mean_max", None),
        ("max+mean", "max+mean", None),
        ("cls+weightedmean", "cls+weightedmean", ["mean", "max", "first", "last", "weightedmean"]),
        ("mean_sqrt_len_tokens", "mean_sqrt_len_tokens", ["mean", "max", "first", "last", "mean_sqrt_len_tokens"]),
    ],
)
def test_a_pooling_may_be_chosen_for_any_checkpoint(run, parameters, given, written, reductions):
    assert run("--pooling", given)[0] == 0
    found = parameters("bert_pooling")
    assert found["pooling"] == written
    assert (json.loads(found["reductions"]) if "reductions" in found else None) == reductions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layers", "x"), "'x' is not a list of layers"),
        (("--max-batch-size", "0"), "'0' is not a whole number from 1 to 2147483647"),
        (("--max-batch-size", str(2**31)), "'2147483648' is not a whole number from 1 to 2147483647"),
        (("--version", str(2**63)), "is not a whole number from 1 to 9223372036854775807"),
        (("--version", "9" * 5000), "is not a whole number from 1 to 9223372036854775807"),
        (("--threads", "5000"), "'5000' is not a whole number from 1 to 1024"),
        (("--instances", "5000"), "'5000' is not a whole number from 1 to 1024"),
        (("--name", "a/b"), "'a/b' is not a model name"),
        (
            ("--name", "msmarco_sparse"),
            "'msmarco_sparse' ends in '_sparse', as the name of one of the models of a family 'msmarco' does: "
            "choose one that ends in none of _tokens, _sparse, ",
        ),
        (("--name", "x_tokens"), "'x_tokens' ends in '_tokens'"),
        (("--backend", "torch"), "choose from"),
        (("--pooling", "median"), "the pooling 'median' is not known; there are mean, max, mean_max, cls, last, "),
        (("--pooling", "cls+pooler"), "the pooling 'cls+pooler' is not known"),
        (("--pooling", "last+lasttoken"), "each once, such as cls+mean"),
    ],
)
def test_wrong_usage_exits_with_2(run, capsys, options, message):
    with pytest.raises(SystemExit) as exit_:
        run(*options)
    assert exit_.value.code == 2 and message in capsys.readouterr().err


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0 and "examples:" in capsys.readouterr().out


def test_weights_that_are_not_finite_are_refused_and_the_repository_stays(run, tmp_path, checkpoint):
    assert run()[0] == 0
    before = (tmp_path / "repository/bert_encoder/1/model.onnx").read_bytes()
    write_bert(checkpoint)
    weights = load_file(checkpoint / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"][:] = np.nan
    save_file(weights, checkpoint / "model.safetensors")
    status, _, err = run()
    assert status == 1 and "not finite" in err
    assert (tmp_path / "repository/bert_encoder/1/model.onnx").read_bytes() == before


def test_verify_without_pytorch_says_so_before_anything_is_done(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    status, out, err = run("--verify")
    assert status == 1 and "--verify" in err and "pip install torch" in err
    assert out == "" and not (tmp_path / "repository").exists()


def test_names_of_any_characters_are_printed_whatever_the_terminal_is_said_to_take(tmp_path):
    folder = tmp_path / "Prüfung"
    settings = CLASSIFIERS["bert"] | {"vocab_size": len(VOCABULARY), "id2label": {"0": "否", "1": "是"}}
    write_classifier(folder, settings)
    write_tokenizer(folder, VOCABULARY)
    done = subprocess.run(
        [sys.executable, "-m", "export", str(folder), "--repository", str(tmp_path / "repository")],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "2 labels ('否', '是')" in done.stdout.decode() and "Prüfung ..." in done.stdout.decode()


def test_ctrl_c_leaves_the_repository_as_it_was(run, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(network, "build", interrupted)
    status, _, err = run()
    assert status == 130 and "the repository is as it was" in err
    assert list((tmp_path / "repository").iterdir()) == []


def test_bfloat16_shards_become_the_same_network(run, tmp_path):
    weights = write_bert(tmp_path / "shards", dtype="bfloat16", shards=3, gamma_beta=True)
    assert run(source=tmp_path / "shards")[0] == 0
    session = onnxruntime.InferenceSession(tmp_path / "repository/bert_encoder/1/model.onnx")
    ids = np.array([5, 6, 7], np.int32)
    ones = np.ones_like(ids)
    inputs = {"input_ids": ids, "attention_mask": ones, "token_type_ids": ones * 0, "pooling_mask": ones}
    (tokens,) = session.run(["token_embeddings"], inputs | dict.fromkeys(map(shape_of, INPUTS), np.int32([[3]])))
    np.testing.assert_allclose(tokens, plain_bert.layers(weights, [5, 6, 7], heads=4)[-1], atol=1e-5)
