"""Google's format, end to end; the reference is what bert-as-service 1.10.0 answered for the files in tests/data."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tokenizers import Tokenizer

from export.__main__ import main
from export.checkpoint import checkpoint, google
from export.checkpoint.google import GoogleWeights, Options
from export.errors import ExportError
from export.network.layout import INPUTS, shape_of
from tests.support.checkpoints.bundles import google_names, write_bundle, write_google
from tests.support.checkpoints.folders import VOCABULARY, write_bert, write_tokenizer
from tests.support.places import DATA

TINY = DATA / "tiny_google_bert_zh"
TEXTS = json.loads((DATA / "tiny_texts.json").read_text(encoding="utf-8"))
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A copy of the checkpoint in Google's format."""
    shutil.copytree(TINY, tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(folder, *options): exit status, standard output and error of an export."""

    def run(folder: Path, *options: str) -> tuple[int, str, str]:
        status = main([str(folder), "--repository", str(tmp_path / "repository"), *options])
        return status, *capsys.readouterr()

    return run


def rename(folder: Path, ckpt: str, to: Path | None = None) -> None:
    """Gives the TensorFlow checkpoint another name, and a folder of its own if asked for."""
    (to or folder).mkdir(exist_ok=True)
    for path in folder.glob("bert_model.ckpt.*"):
        path.rename((to or folder) / path.name.replace("bert_model.ckpt", ckpt))


def encode(repository: Path, max_seq_len: int) -> dict[str, np.ndarray]:
    """Runs the exported network on the texts as one padded batch: token_embeddings is [N, S, D]."""
    tokenizer = Tokenizer.from_file(str(repository / "bert_tokenizer/1/tokenizer.json"))
    tokenizer.enable_truncation(max_seq_len)
    tokenizer.enable_padding(length=max_seq_len)
    encodings = tokenizer.encode_batch([tuple(t.split(" ||| ")) if " ||| " in t else t for t in TEXTS])
    ids, mask, types = (
        np.array([getattr(e, name) for e in encodings], np.int32).ravel()
        for name in ("ids", "attention_mask", "type_ids")
    )
    feed = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": types,
        "pooling_mask": mask,
    } | dict.fromkeys(map(shape_of, INPUTS), np.full((len(TEXTS), 1), max_seq_len, np.int32))
    session = onnxruntime.InferenceSession(repository / "bert_encoder/1/model.onnx")
    names = [output.name for output in session.get_outputs()]
    arrays = dict(zip(names, session.run(names, feed), strict=True))
    arrays["token_embeddings"] = arrays["token_embeddings"].reshape(len(TEXTS), max_seq_len, -1)
    return arrays


@pytest.mark.parametrize(
    ("recorded", "layers", "max_seq_len", "answer"),
    [
        ("seq25_REDUCE_MEAN_l-2", ["-2"], 25, lambda arrays: arrays["pooled"][:, 0]),
        ("seq25_NONE_l-1", ["-1"], 25, lambda arrays: arrays["token_embeddings"]),
        ("seqdyn_CLS_POOLED_l-1", ["-1"], 64, lambda arrays: arrays["pooler_output"]),
        ("seqdyn_REDUCE_MEAN_l-1-2", ["-1", "-2"], 64, lambda arrays: arrays["pooled"][:, 0]),
    ],
)
def test_vectors_equal_those_of_bert_as_service(
    run: Run,
    tmp_path: Path,
    recorded: str,
    layers: list[str],
    max_seq_len: int,
    answer: Callable[[dict[str, np.ndarray]], np.ndarray],
) -> None:
    assert run(TINY, "--layers", *layers)[0] == 0
    found, expected = (
        answer(encode(tmp_path / "repository", max_seq_len)),
        np.load(DATA / "tiny_reference.npz")[recorded],
    )
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found == 0, expected == 0)


def test_the_defaults_are_those_of_a_plain_bert() -> None:
    loaded = checkpoint.load(str(TINY))
    encoder = loaded.encoder
    assert (encoder.hidden_size, encoder.num_hidden_layers, encoder.num_attention_heads) == (32, 3, 4)
    assert (encoder.intermediate_size, encoder.vocab_size, encoder.max_positions) == (64, 223, 64)
    assert (encoder.type_vocab_size, encoder.hidden_act, encoder.norm.epsilon) == (2, "gelu", 1e-12)
    defaults = loaded.defaults
    assert (defaults.pooling, defaults.normalize, defaults.max_seq_len) == ("mean", False, 64)
    assert loaded.notes == ()


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("pooler", [True, False])
def test_the_same_weights_become_the_same_network_in_either_format(
    run: Run, tmp_path: Path, shards: int, pooler: bool
) -> None:
    weights = write_bert(tmp_path / "hugging", hidden=24, heads=3, intermediate=56, layers=2, pooler=pooler)
    config = json.loads((tmp_path / "hugging/config.json").read_text())
    del config["model_type"], config["architectures"]
    write_google(tmp_path / "google", weights, config, shards=shards)
    write_tokenizer(tmp_path / "google", tokenizer_json=False)
    assert run(tmp_path / "hugging")[0] == run(tmp_path / "google", "--name", "google")[0] == 0
    hugging, of_google = (tmp_path / f"repository/{name}_encoder/1/model.onnx" for name in ("bert", "google"))
    assert hugging.read_bytes() == of_google.read_bytes()


def test_other_variables_are_named_and_optimizer_slots_counted(run: Run) -> None:
    _, out, _ = run(TINY)
    heads = "cls/seq_relationship/output_bias, cls/seq_relationship/output_weights"
    assert f"skipped: {heads}, global_step and 6 optimizer slots (not part of the encoder)\n" in out


def test_another_checkpoint_name_is_taken(tiny: Path, run: Run) -> None:
    rename(tiny, "model.ckpt-343")
    assert run(tiny, "--ckpt-name", "model.ckpt-343")[0] == 0
    status, _, err = run(tiny)
    assert status == 1
    assert "there is no bert_model.ckpt.index; name the checkpoint with --ckpt-name: model.ckpt-343" in err


def test_another_config_name_is_taken(tiny: Path, run: Run) -> None:
    (tiny / "bert_config.json").rename(tiny / "config.json")
    assert run(tiny, "--config-name", "config.json")[0] == 0
    status, _, err = run(tiny, "--cased")
    assert status == 1
    assert "there is no bert_config.json" in err


def test_weights_come_from_the_tuned_folder_and_the_rest_from_the_first(tiny: Path, tmp_path: Path) -> None:
    rename(tiny, "model.ckpt-7", to=tmp_path / "tuned")
    loaded = checkpoint.load(
        str(tiny), google_options=Options(ckpt_name="model.ckpt-7", tuned_model_dir=tmp_path / "tuned")
    )
    name, shape = "pooler.dense.weight", (32, 32)
    expected = checkpoint.load(str(TINY)).weights.take(name, shape)
    np.testing.assert_array_equal(loaded.weights.take(name, shape), expected)
    assert Tokenizer.from_str(loaded.tokenizer_json).get_vocab_size() == 223


def test_the_tuned_folder_is_preferred_to_weights_beside_the_configuration(tiny: Path, tmp_path: Path) -> None:
    name = "pooler.dense.bias"
    tuned = write_bert(tmp_path / "hugging", seed=1)
    write_bundle(tmp_path / "tuned" / "bert_model.ckpt", google_names(tuned))
    loaded = checkpoint.load(str(tiny), google_options=Options(tuned_model_dir=tmp_path / "tuned"))
    np.testing.assert_array_equal(loaded.weights.take(name, (32,)), tuned[name])


def test_texts_are_lower_cased_unless_the_checkpoint_is_cased(tmp_path: Path) -> None:
    weights = write_bert(tmp_path)
    write_google(tmp_path, weights, json.loads((tmp_path / "config.json").read_text()))
    write_tokenizer(tmp_path, [*VOCABULARY[:-1], "Café"], tokenizer_json=False)
    tokens = {}
    for cased in (True, False):
        options = Options(cased=cased, ckpt_name="bert_model.ckpt")
        loaded = checkpoint.load(str(tmp_path), google_options=options)
        tokens[cased] = Tokenizer.from_str(loaded.tokenizer_json).encode("Café 中文").tokens[1:-1]
    assert tokens == {True: ["Café", "中", "文"], False: ["cafe", "中", "文"]}


def test_a_vocabulary_with_many_capitals_is_noted_unless_cased(tiny: Path, run: Run) -> None:
    lines = (tiny / "vocab.txt").read_text(encoding="utf-8").splitlines()
    lines[-30:] = [f"Word{i}" for i in range(30)]
    (tiny / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    note = "note: texts are lower-cased, but 30 of the 223 tokens in vocab.txt have capitals"
    assert note in run(tiny)[1]
    assert "note:" not in run(tiny, "--cased")[1]


def test_only_vocab_txt_is_the_tokenizer(tiny: Path) -> None:
    (tiny / "tokenizer.json").write_text("{}")
    (tiny / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    tokenizer = Tokenizer.from_str(checkpoint.load(str(tiny)).tokenizer_json)
    assert (
        tokenizer.encode("HELLO").tokens
        == Tokenizer.from_str(checkpoint.load(str(TINY)).tokenizer_json).encode("hello").tokens
    )


def test_of_both_formats_hugging_face_is_read_unless_an_option_is_given(tmp_path: Path) -> None:
    write_bert(tmp_path, seed=1)
    google_weights = write_bert(tmp_path / "other", seed=2)
    write_google(tmp_path, google_weights, json.loads((tmp_path / "config.json").read_text()))
    write_tokenizer(tmp_path, tokenizer_json=False)
    name, shape = "pooler.dense.bias", (32,)
    taken = {
        options: checkpoint.load(str(tmp_path), google_options=options).weights.take(name, shape)
        for options in (None, Options(ckpt_name="bert_model.ckpt"), Options(cased=True))
    }
    assert not np.array_equal(taken[None], google_weights[name])
    np.testing.assert_array_equal(taken[Options(ckpt_name="bert_model.ckpt")], google_weights[name])
    np.testing.assert_array_equal(taken[Options(cased=True)], google_weights[name])


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (["--cased"], "--cased"),
        (["--ckpt-name", "model.ckpt-3"], "--ckpt-name"),
        (["--config-name", "bert.json", "--cased"], "--config-name, --cased"),
        (["--tuned-model-dir", "tuned"], "--tuned-model-dir"),
    ],
)
def test_options_of_the_format_are_an_error_for_another(
    run: Run, tmp_path: Path, options: list[str], flags: str
) -> None:
    write_bert(tmp_path / "hugging")
    for source in (tmp_path / "hugging", Path("some/hub-id")):
        status, _, err = run(source, *options)
        assert status == 1
        assert f"error: {flags}: for checkpoints in Google's original format, but {source} holds none (no " in err


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("vocab.txt", r"there is no vocab\.txt"),
        ("bert_config.json", r"there is no bert_config\.json"),
        ("bert_model.ckpt.index", r"there is no bert_model\.ckpt\.index; copy or download it too"),
        ("bert_model.ckpt.data-00000-of-00001", r"there is no bert_model\.ckpt\.data-00000-of-00001"),
    ],
)
def test_a_missing_file_is_named(tiny: Path, file: str, message: str) -> None:
    (tiny / file).unlink()
    with pytest.raises(ExportError, match=message):
        checkpoint.load(str(tiny))


def test_a_tuned_folder_that_is_not_there_is_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="nowhere: there is no such folder"):
        checkpoint.load(str(tiny), google_options=Options(tuned_model_dir=tmp_path / "nowhere"))


def test_a_missing_variable_has_tensorflows_name_and_shape(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x", google_names({"embeddings.word_embeddings.weight": np.zeros((2, 2), np.float32)}))
    name = "bert/encoder/layer_0/intermediate/dense/kernel"
    with pytest.raises(ExportError, match=rf"x\.index: variable '{name}' of shape \[32, 64\] is missing"):
        GoogleWeights(tmp_path / "x").take("encoder.layer.0.intermediate.dense.weight", (64, 32))


@pytest.mark.parametrize(
    ("weight", "shape", "message"),
    [
        (
            "encoder.layer.1.output.dense.weight",
            (32, 63),
            r"'bert/encoder/layer_1/output/dense/kernel' has shape \[64, 32\], .* asks for \[63, 32\]",
        ),
        (
            "embeddings.word_embeddings.weight",
            (224, 32),
            r"'bert/embeddings/word_embeddings' has shape \[223, 32\], .* asks for \[224, 32\]",
        ),
        ("embeddings.LayerNorm.weight", (33,), r"'bert/embeddings/LayerNorm/gamma' has shape \[32\]"),
    ],
)
def test_a_variable_of_another_shape_is_named(weight: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        GoogleWeights(TINY / "bert_model.ckpt").take(weight, shape)


def test_float16_variables_are_read_as_float32(tmp_path: Path) -> None:
    words = (np.arange(6).reshape(3, 2) / 4).astype(np.float16)
    write_bundle(tmp_path / "x", google_names({"embeddings.word_embeddings.weight": words}))
    taken = GoogleWeights(tmp_path / "x").take("embeddings.word_embeddings.weight", (3, 2))
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, words)


@pytest.mark.parametrize("name", ["embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.weight"])
def test_a_variable_that_is_not_finite_is_refused(tmp_path: Path, name: str) -> None:
    weights = write_bert(tmp_path / "bert", tokenizer_json=False)
    weights[name][-1, 3] = np.nan
    write_bundle(tmp_path / "model", google_names(weights))
    with pytest.raises(ExportError, match=rf"variable '{google.variable_name(name)}' has 1 of [\d,]+ values"):
        GoogleWeights(tmp_path / "model").take(name, weights[name].shape)


def test_a_damaged_checkpoint_is_refused_and_the_repository_stays(tiny: Path, run: Run, tmp_path: Path) -> None:
    data = tiny / "bert_model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[20000] ^= 1
    data.write_bytes(content)
    status, _, err = run(tiny)
    assert status == 1
    assert f"{data}: the bytes of tensor 'bert/embeddings/word_embeddings' do not have their checksum" in err
    assert list((tmp_path / "repository").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("electra/embeddings/word_embeddings", "this is not a BERT of Google's code .* electra/embeddings"),
        ("_CHECKPOINTABLE_OBJECT_GRAPH", "it is in the object-based form of TensorFlow 2"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path, name: str, message: str) -> None:
    write_bundle(tmp_path / "x", {name: np.zeros((2, 2), np.float32)})
    with pytest.raises(ExportError, match=rf"'bert/embeddings/word_embeddings' is missing; {message}"):
        GoogleWeights(tmp_path / "x")


def test_a_tensorflow_checkpoint_beside_a_hugging_face_config_is_pointed_out(tmp_path: Path) -> None:
    weights = write_bert(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    write_bundle(tmp_path / "tuned.ckpt", google_names(weights))
    with pytest.raises(ExportError, match=r"pass --ckpt-name tuned\.ckpt --config-name config\.json"):
        checkpoint.load(str(tmp_path))


def test_options_are_known_by_their_flags() -> None:
    assert Options().given() == []
    assert Options("a", "b", Path("c"), True).given() == [
        "--ckpt-name",
        "--config-name",
        "--tuned-model-dir",
        "--cased",
    ]
    assert google.variable_name("embeddings.LayerNorm.bias") == "bert/embeddings/LayerNorm/beta"
