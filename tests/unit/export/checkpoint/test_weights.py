from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from export.checkpoint.weights import SafetensorsWeights
from export.errors import ExportError
from tests.support.checkpoints.folders import write_bert, write_json, write_safetensors

WORDS = "embeddings.word_embeddings.weight"


@pytest.mark.parametrize("prefix", ["", "bert.", "model.", "0.auto_model.", "encoder.bert."])
def test_names_are_found_under_any_prefix(tmp_path: Path, prefix: str) -> None:
    written = write_bert(tmp_path, prefix=prefix)
    weights = SafetensorsWeights(tmp_path, anchor=WORDS)
    for name, values in written.items():
        assert weights.has(name)
        np.testing.assert_array_equal(weights.take(name, values.shape), values)
    assert not weights.has("encoder.layer.3.output.dense.weight")


def test_norms_are_found_under_their_old_names(tmp_path: Path) -> None:
    written = write_bert(tmp_path, gamma_beta=True)
    name = "encoder.layer.1.output.LayerNorm.bias"
    np.testing.assert_array_equal(SafetensorsWeights(tmp_path, anchor=WORDS).take(name, (32,)), written[name])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_floating_point_type_is_read_as_float32(tmp_path: Path, dtype: str) -> None:
    written = write_bert(tmp_path, dtype=dtype)
    taken = SafetensorsWeights(tmp_path, anchor=WORDS).take(WORDS, written[WORDS].shape)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, written[WORDS])


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("float32", np.nan), ("float16", np.inf), ("bfloat16", -np.inf), ("float64", np.nan), ("float64", 1e300)],
)
def test_values_that_float32_cannot_hold_are_refused_in_every_type(tmp_path: Path, dtype: str, value: float) -> None:
    write_bert(tmp_path, dtype=dtype)
    stored = load_file(tmp_path / "model.safetensors")
    for name in (WORDS, "encoder.layer.1.attention.self.key.bias", "encoder.layer.2.output.LayerNorm.weight"):
        spoiled = stored[name].copy()
        spoiled[-1] = value
        save_file(stored | {name: spoiled}, tmp_path / "model.safetensors")
        with pytest.raises(ExportError, match=rf"weight '{name}' has \d+ of [\d,]+ values that are not finite"):
            SafetensorsWeights(tmp_path, anchor=WORDS).take(name, spoiled.shape)


def test_shards_read_as_one_checkpoint(tmp_path: Path) -> None:
    written = write_bert(tmp_path, shards=3)
    weights = SafetensorsWeights(tmp_path, anchor=WORDS)
    for name, values in written.items():
        np.testing.assert_array_equal(weights.take(name, values.shape), values)
    assert weights.skipped() == []


def test_tensors_that_were_not_taken_are_listed(tmp_path: Path) -> None:
    head = {"cls.predictions.bias": np.zeros(4, np.float32), "bert.embeddings.position_ids": np.arange(64)}
    written = write_bert(tmp_path, prefix="bert.", extra=head)
    weights = SafetensorsWeights(tmp_path, anchor=WORDS)
    for name, values in written.items():
        weights.take(name, values.shape)
    assert weights.skipped() == ["bert.embeddings.position_ids", "cls.predictions.bias"]


def test_a_missing_weight_is_named_with_its_shape_and_file(tmp_path: Path) -> None:
    write_bert(tmp_path, layers=1, prefix="bert.")
    name = r"bert\.encoder\.layer\.1\.output\.dense\.weight"
    with pytest.raises(ExportError, match=rf"model\.safetensors: weight '{name}' of shape \[32, 64\] is missing"):
        SafetensorsWeights(tmp_path, anchor=WORDS).take("encoder.layer.1.output.dense.weight", (32, 64))


def test_a_missing_weight_of_a_sharded_checkpoint_names_the_index(tmp_path: Path) -> None:
    write_bert(tmp_path, shards=2)
    with pytest.raises(ExportError, match=r"model\.safetensors\.index\.json: weight 'nothing'"):
        SafetensorsWeights(tmp_path, anchor=WORDS).take("nothing", (1,))


def test_a_misshaped_weight_is_named_with_both_shapes(tmp_path: Path) -> None:
    write_bert(tmp_path, shards=2)
    wanted = r"-of-00002\.safetensors: weight '.*query\.bias' has shape \[32\], but config\.json asks for \[48\]"
    with pytest.raises(ExportError, match=wanted):
        SafetensorsWeights(tmp_path, anchor=WORDS).take("encoder.layer.0.attention.self.query.bias", (48,))


def test_quantized_weights_are_refused_by_type(tmp_path: Path) -> None:
    write_bert(tmp_path, dtype="int8")
    with pytest.raises(ExportError, match=r"weight 'pooler\.dense\.bias' is of type I8, but F32, F16, BF16, F64"):
        SafetensorsWeights(tmp_path, anchor=WORDS).take("pooler.dense.bias", (32,))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    write_safetensors(tmp_path, {"wte.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(ExportError, match=r"'embeddings\.word_embeddings\.weight' is missing .* are wte\.weight"):
        SafetensorsWeights(tmp_path, anchor=WORDS)


def test_two_networks_in_one_checkpoint_are_refused(tmp_path: Path) -> None:
    tower = np.zeros((2, 2), np.float32)
    write_safetensors(tmp_path, {f"query.{WORDS}": tower, f"passage.{WORDS}": tower})
    with pytest.raises(ExportError, match=r"several networks, under the prefixes 'passage\.', 'query\.'"):
        SafetensorsWeights(tmp_path, anchor=WORDS)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "last.ckpt"])
def test_pickles_are_refused_unopened_and_the_conversion_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(ExportError, match=rf"the weights are in {name}, a pickle.*save_pretrained"):
        SafetensorsWeights(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tf_model.h5").touch()
    with pytest.raises(ExportError, match=r"no model\.safetensors, and tf_model\.h5 is not read; convert"):
        SafetensorsWeights(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no model\.safetensors and no model\.safetensors\.index\.json"):
        SafetensorsWeights(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_bert(tmp_path, shards=2)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ExportError, match=r"names the file 'model-00002-of-00002\.safetensors', which is missing"):
        SafetensorsWeights(tmp_path)


def test_an_index_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": "../other.safetensors"}})
    with pytest.raises(ExportError, match=r"'\.\./other\.safetensors', which is not in the same folder"):
        SafetensorsWeights(tmp_path)


def test_an_index_without_a_map_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "model.safetensors.index.json", {"metadata": {}})
    with pytest.raises(ExportError, match="has no weight_map"):
        SafetensorsWeights(tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    write_bert(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ExportError, match=r"model\.safetensors: damaged or incomplete .*; download it again"):
        SafetensorsWeights(tmp_path)


def test_a_git_lfs_pointer_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\nsize 12\n")
    with pytest.raises(ExportError, match="Git LFS pointer.*git lfs pull"):
        SafetensorsWeights(tmp_path)
