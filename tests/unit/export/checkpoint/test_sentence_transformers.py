"""What sentence-transformers takes from such files was read off its version 6.2.0."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from export.checkpoint import sentence_transformers
from export.checkpoint.modules import read_modules
from export.checkpoint.sentence_transformers import Defaults
from export.checkpoint.transformer_settings import TransformerSettings
from export.errors import ExportError
from tests.support.checkpoints.folders import write_json, write_modules, write_safetensors

POOLING = "sentence_transformers.models.Pooling"
DENSE = "sentence_transformers.models.Dense"
NORMALIZE = "sentence_transformers.models.Normalize"
LAYER_NORM = "sentence_transformers.models.LayerNorm"
TANH = "torch.nn.modules.activation.Tanh"


def read(folder: Path, *, hidden_size: int = 4, max_positions: int = 64) -> Defaults:
    modules = read_modules(folder)
    return sentence_transformers.read(folder, modules, hidden_size=hidden_size, max_positions=max_positions)


def write_dense(folder: Path, *, rows: int = 3, columns: int = 4, bias: bool = True, **config: Any) -> np.ndarray:
    """Write the second module's folder; return its weight."""
    folder = folder / "2_Dense"
    folder.mkdir(parents=True, exist_ok=True)
    weight = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    tensors = {"linear.weight": weight} | ({"linear.bias": -weight[:, 0].copy()} if bias else {})
    write_safetensors(folder, tensors)
    write_json(folder / "config.json", {"in_features": columns, "out_features": rows, "bias": bias, **config})
    return weight


def test_a_folder_without_modules_is_averaged_and_not_normalised(tmp_path: Path) -> None:
    assert read(tmp_path) == Defaults(max_seq_len=64, pooling="mean", normalize=False)
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": 40})
    # Files that only belong to modules are not looked at, as in sentence-transformers.
    write_json(tmp_path / "sentence_bert_config.json", {"max_seq_length": 20, "do_lower_case": True})
    write_json(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "q: "}})
    assert read(tmp_path) == Defaults(max_seq_len=40)
    assert sentence_transformers.loading(()) == TransformerSettings()


def test_a_folder_of_version_2_is_read(tmp_path: Path) -> None:
    flags = {"word_embedding_dimension": 4, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    write_modules(
        tmp_path,
        (POOLING, flags),
        (DENSE, None),
        (NORMALIZE, None),
        settings={"max_seq_length": 50, "do_lower_case": True},
    )
    weight = write_dense(tmp_path, activation_function=TANH)
    defaults = read(tmp_path)
    assert (defaults.pooling, defaults.normalize, defaults.max_seq_len) == ("cls", True, 50)
    assert defaults.unsupported is None
    (dense,) = defaults.stages
    np.testing.assert_array_equal(dense.arrays["weight"], weight)
    np.testing.assert_array_equal(dense.arrays["bias"], [0, -4, -8])
    assert (dense.kind, dense.sizes) == ("tanh", (4, 3))
    assert sentence_transformers.loading(read_modules(tmp_path)).lowercase


def test_a_folder_of_version_6_is_read(tmp_path: Path) -> None:
    names = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
    write_modules(
        tmp_path,
        (
            "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
            {"embedding_dimension": 4, "pooling_mode": "lasttoken", "include_prompt": True},
        ),
        ("sentence_transformers.base.modules.dense.Dense", None),
        ("sentence_transformers.base.modules.normalize.Normalize", names),
        settings={
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
        },
    )
    write_dense(tmp_path, activation_function="torch.nn.modules.linear.Identity", bias=False, **names)
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": 40})
    write_json(
        tmp_path / "config_sentence_transformers.json",
        {
            "model_type": "SentenceTransformer",
            "prompts": {"query": "query: ", "document": None},
            "default_prompt_name": "query",
            "similarity_fn_name": "cosine",
        },
    )
    defaults = read(tmp_path)
    assert (defaults.pooling, defaults.normalize, defaults.max_seq_len) == ("last", True, 40)
    assert defaults.prompts == {"query": "query: ", "document": ""}
    assert defaults.default_prompt_name == "query"
    assert [({*dense.arrays}, dense.kind) for dense in defaults.stages] == [({"weight"}, "identity")]
    assert defaults.similarity == "cosine"


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({}, "mean"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False}, "mean"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}, "max"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "max", "pooling_mode_cls_token": True}, "max"),
        ({"pooling_mode": ["cls"]}, "cls"),
        ({"pooling_mode": ["mean", "max"]}, "mean_max"),
        ({"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "max+mean"),
        ({"pooling_mode": ["cls", "mean"]}, "cls+mean"),
        (
            dict.fromkeys(sentence_transformers._POOLING_FLAGS, True),
            "cls+max+mean+mean_sqrt_len_tokens+weightedmean+last",
        ),
    ],
)
def test_every_form_of_pooling_is_read(tmp_path: Path, config: dict[str, Any], pooling: str) -> None:
    write_modules(tmp_path, (POOLING, config))
    defaults = read(tmp_path)
    assert (defaults.pooling, defaults.unsupported) == (pooling, None)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"pooling_mode": "median"}, "pools by median (export works for cls, max, mean, mean_sqrt_len_tokens, "),
        ({"pooling_mode": ["cls", "median"]}, "pools by cls+median (export"),
        ({"pooling_mode": ["cls", "cls"]}, "pools by cls+cls (export"),
        ({"pooling_mode": []}, "pools by  (export"),
        ({"pooling_mode": "last"}, "pools by last (export"),  # a name of ours alone
    ],
)
def test_a_pooling_that_cannot_be_exported_is_told_and_the_rest_is_read(
    tmp_path: Path, config: dict[str, Any], reason: str
) -> None:
    write_modules(tmp_path, (POOLING, config), (NORMALIZE, None), settings={"max_seq_length": 30})
    defaults = read(tmp_path)
    assert defaults.unsupported is not None
    assert f"{tmp_path / '1_Pooling' / 'config.json'}: {reason}" in defaults.unsupported
    assert (defaults.pooling, defaults.normalize, defaults.max_seq_len) == ("", True, 30)


@pytest.mark.parametrize(
    ("settings", "config", "reason"),
    [
        ({"transformer_task": "fill-mask"}, {}, "transformer_task is 'fill-mask'"),
        ({"module_output_name": "sentence_embedding"}, {}, "module_output_name is 'sentence_embedding'"),
        (
            {"modality_config": {"text": {"method_output_name": "pooler_output"}}},
            {},
            "method_output_name is 'pooler_output'",
        ),
        ({}, {"model_type": "SparseEncoder"}, "model_type is 'SparseEncoder'"),
    ],
)
def test_a_checkpoint_of_another_purpose_has_no_pooling(
    tmp_path: Path, settings: dict[str, Any], config: dict[str, Any], reason: str
) -> None:
    write_modules(tmp_path, (POOLING, {}), settings=settings)
    write_json(tmp_path / "config_sentence_transformers.json", config)
    defaults = read(tmp_path)
    assert reason in str(defaults.unsupported)
    assert defaults.pooling == ""


def test_the_logits_of_a_masked_language_model_are_not_pooled(tmp_path: Path) -> None:
    write_modules(tmp_path, (POOLING, {}), first="sentence_transformers.sparse_encoder.models.MLMTransformer")
    assert "transformer_task is 'fill-mask'" in str(read(tmp_path).unsupported)


def test_a_checkpoint_that_does_not_pool_has_no_pooling(tmp_path: Path) -> None:
    write_modules(tmp_path, (NORMALIZE, None))
    assert "no Pooling comes after the Transformer" in str(read(tmp_path).unsupported)


@pytest.mark.parametrize(
    ("settings", "tokenizer", "longest"),
    [
        ({}, {}, 64),
        ({}, {"model_max_length": 1e30}, 64),
        ({}, {"model_max_length": 512}, 64),
        ({}, {"model_max_length": 40}, 40),
        ({"max_seq_length": None}, {"model_max_length": 40}, 40),
        ({"max_seq_length": 50}, {"model_max_length": 40}, 50),
        ({"max_seq_length": 50, "tokenizer_args": {"model_max_length": 20}}, {}, 20),
        ({"processor_kwargs": {"model_max_length": 20}}, {"model_max_length": 40}, 20),
        # Here sentence-transformers has 100, and fails on a text of more than 64 tokens.
        ({"max_seq_length": 100}, {"model_max_length": 40}, 64),
    ],
)
def test_the_longest_text_is_that_of_sentence_transformers(
    tmp_path: Path, settings: dict[str, Any], tokenizer: dict[str, Any], longest: int
) -> None:
    write_modules(tmp_path, (POOLING, {}), settings=settings)
    write_json(tmp_path / "tokenizer_config.json", tokenizer)
    assert read(tmp_path).max_seq_len == longest


def test_dropout_changes_nothing(tmp_path: Path) -> None:
    write_modules(tmp_path, (POOLING, {}), ("sentence_transformers.models.Dropout", {"dropout": 0.5}))
    assert read(tmp_path) == Defaults(max_seq_len=64)


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (None, "tanh"),
        ("torch.nn.modules.activation.ReLU", "relu"),
        ("torch.nn.modules.activation.GELU", "gelu"),
        ("torch.nn.modules.activation.Sigmoid", "sigmoid"),
        ("torch.nn.modules.activation.SiLU", "silu"),
        ("torch.nn.modules.activation.LeakyReLU", "leaky_relu"),
        ("torch.nn.modules.linear.Identity", "identity"),
    ],
)
def test_activations_of_a_dense_are_read(tmp_path: Path, activation: str | None, name: str) -> None:
    write_modules(tmp_path, (POOLING, {}), (DENSE, None))
    write_dense(tmp_path, **({"activation_function": activation} if activation else {}))
    assert [dense.kind for dense in read(tmp_path).stages] == [name]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"activation_function": "torch.nn.modules.activation.PReLU"},
            "activation_function is .*PReLU'; export",
        ),
        ({"activation_function": "custom.Code"}, r"activation_function is 'custom\.Code'; export works for"),
        ({"use_residual": True}, r"weight 'residual\.weight' of shape \[3, 4\] is missing"),
        (
            {"module_input_name": "token_embeddings"},
            "module_input_name is 'token_embeddings'; export works for",
        ),
        ({"in_features": 5}, "in_features is 5, but the vectors before it have length 4"),
        ({"out_features": None}, "out_features is None; a whole number above 0 is expected"),
        ({"out_features": 7}, r"weight 'linear\.weight' has shape \[3, 4\], but config\.json asks for \[7, 4\]"),
    ],
)
def test_a_dense_that_cannot_be_exported_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    write_modules(tmp_path, (POOLING, {}), (DENSE, None))
    write_dense(tmp_path, **config)
    with pytest.raises(ExportError, match=f"2_Dense.*{message}"):
        read(tmp_path)


def test_a_dense_must_fit_the_one_before(tmp_path: Path) -> None:
    write_modules(tmp_path, (POOLING, {}), (DENSE, None), (DENSE, {"in_features": 4, "out_features": 2}))
    write_dense(tmp_path, rows=3)
    with pytest.raises(ExportError, match="3_Dense.*in_features is 4, but the vectors before it have length 3"):
        read(tmp_path)


def test_a_dense_behind_mean_and_max_takes_both(tmp_path: Path) -> None:
    write_modules(tmp_path, (POOLING, {"pooling_mode": ["mean", "max"]}), (DENSE, None))
    write_dense(tmp_path, columns=8)
    assert read(tmp_path).stages[0].sizes == (8, 3)


@pytest.mark.parametrize("columns", [4, 3])
def test_the_residual_connection_of_a_dense_is_read(tmp_path: Path, columns: int) -> None:
    write_modules(tmp_path, (POOLING, {}), (DENSE, None))
    write_dense(tmp_path, rows=columns, use_residual=True, activation_function=TANH)
    path = tmp_path / "2_Dense/model.safetensors"
    if columns != 4:
        write_safetensors(path.parent, load_file(path) | {"residual.weight": np.ones((columns, 4), np.float32)})
    (stage,) = read(tmp_path).stages
    assert stage.kind == "tanh+residual"
    assert ("residual" in stage.arrays) is (columns != 4)


def write_layer_norm(folder: Path, size: int, **config: Any) -> None:
    """Write the folder of a LayerNorm."""
    write_json(folder / "config.json", {"dimension": size, **config})
    write_safetensors(folder, {"norm.weight": np.ones(size, np.float32), "norm.bias": np.zeros(size, np.float32)})


def test_modules_behind_the_pooling_are_read_in_their_order(tmp_path: Path) -> None:
    dropout = ("sentence_transformers.models.Dropout", {"dropout": 0.5})
    last = [(LAYER_NORM, None), (NORMALIZE, None), dropout, (NORMALIZE, None)]
    write_modules(tmp_path, (POOLING, {}), (DENSE, None), (NORMALIZE, None), dropout, *last)
    write_dense(tmp_path)
    write_layer_norm(tmp_path / "5_LayerNorm", 3)
    defaults = read(tmp_path)
    assert [stage.kind for stage in defaults.stages] == ["tanh", "normalize", "layer_norm"]
    assert defaults.normalize
    assert [{*stage.arrays} for stage in defaults.stages] == [{"weight", "bias"}, set(), {"weight", "bias"}]


def test_a_normalize_before_another_module_is_no_default_of_requests(tmp_path: Path) -> None:
    write_modules(tmp_path, (POOLING, {}), (NORMALIZE, None), (DENSE, None))
    (tmp_path / "3_Dense").rmdir()
    write_dense(tmp_path)
    (tmp_path / "2_Dense").rename(tmp_path / "3_Dense")
    defaults = read(tmp_path)
    assert ([stage.kind for stage in defaults.stages], defaults.normalize) == (["normalize", "tanh"], False)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dimension": 5}, "dimension is 5, but the vectors before it have length 4"),
        ({"dimension": 0}, "dimension is 0; a whole number above 0 is expected"),
        ({"eps": 1e-3}, "eps"),
    ],
)
def test_a_layer_norm_that_cannot_be_exported_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    write_modules(tmp_path, (POOLING, {}), (LAYER_NORM, None))
    write_layer_norm(tmp_path / "2_LayerNorm", 4, **config)
    with pytest.raises(ExportError, match=f"2_LayerNorm.*{message}"):
        read(tmp_path)


@pytest.mark.parametrize("include", [True, False])
def test_whether_prompts_are_pooled_is_read(tmp_path: Path, include: bool) -> None:
    write_modules(tmp_path, (POOLING, {"pooling_mode": "mean", "include_prompt": include}))
    defaults = read(tmp_path)
    assert (defaults.include_prompt, defaults.unsupported) == (include, None)
    write_modules(tmp_path, (POOLING, {"include_prompt": 0}))
    with pytest.raises(ExportError, match="include_prompt is 0; true or false is expected"):
        read(tmp_path)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan", None])
def test_the_similarity_is_read(tmp_path: Path, similarity: str | None) -> None:
    write_modules(tmp_path, (POOLING, {}))
    write_json(tmp_path / "config_sentence_transformers.json", {"similarity_fn_name": similarity})
    assert read(tmp_path).similarity == (similarity or "cosine")


@pytest.mark.parametrize("similarity", ["maxsim", "Cosine", 5, ["dot"]])
def test_an_unknown_similarity_is_refused(tmp_path: Path, similarity: Any) -> None:
    write_modules(tmp_path, (POOLING, {}))
    write_json(tmp_path / "config_sentence_transformers.json", {"similarity_fn_name": similarity})
    with pytest.raises(ExportError, match=r"similarity_fn_name is .*; export works for cosine, dot, euclidean, man"):
        read(tmp_path)


def test_a_dense_in_a_pickle_is_refused(tmp_path: Path) -> None:
    write_modules(tmp_path, (POOLING, {}), (DENSE, None))
    write_dense(tmp_path)
    (tmp_path / "2_Dense" / "model.safetensors").rename(tmp_path / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(ExportError, match=r"2_Dense: there is no model\.safetensors, and pickle files are refused"):
        read(tmp_path)


def test_modules_in_an_order_that_cannot_be_exported_are_refused(tmp_path: Path) -> None:
    write_modules(tmp_path, (POOLING, {}), (POOLING, {}))
    with pytest.raises(ExportError, match="2_Pooling: a Pooling is expected at the start"):
        read(tmp_path)


def test_normalising_something_else_is_refused(tmp_path: Path) -> None:
    write_modules(tmp_path, (POOLING, {}), (NORMALIZE, {"module_input_name": "token_embeddings"}))
    with pytest.raises(ExportError, match="2_Normalize.*module_input_name is 'token_embeddings'"):
        read(tmp_path)


@pytest.mark.parametrize(
    "kind",
    [
        *(
            f"sentence_transformers.models.{name}"
            for name in ("Asym", "BoW", "CLIPModel", "CNN", "LSTM", "Router", "StaticEmbedding", "WeightedLayerPooling")
        ),
        "sentence_transformers.models.WordEmbeddings",
        "sentence_transformers.models.WordWeights",
        "sentence_transformers.base.modules.router.Router",
        "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
        "sentence_transformers.multi_vector_encoder.modules.token_pooling.HierarchicalTokenPooling",
        "sentence_transformers.sparse_encoder.models.SparseAutoEncoder",
        "custom_module.Pooling",
        "Pooling",
    ],
)
def test_unknown_modules_are_refused_by_name_and_not_imported(tmp_path: Path, kind: str) -> None:
    write_modules(tmp_path, (POOLING, {}), (kind, {}))
    (tmp_path / "custom_module.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ExportError, match=f"has the module {kind}; export works for .* never runs code"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([], "the first module is expected to be a Transformer"),
        ([{"path": "", "type": POOLING}], "the first module is expected to be a Transformer"),
        ({"modules": []}, "a list of modules with a type and a path"),
        ([{"path": ""}], "a list of modules with a type and a path"),
        ([{"path": "../x", "type": POOLING}], "path '../x' leads out of the checkpoint"),
        ([{"path": "/etc", "type": POOLING}], "path '/etc' leads out of the checkpoint"),
    ],
)
def test_a_damaged_list_of_modules_is_refused(tmp_path: Path, modules: Any, message: str) -> None:
    write_json(tmp_path / "modules.json", modules)
    with pytest.raises(ExportError, match=rf"modules\.json: .*{message}"):
        read(tmp_path)


def test_a_missing_pooling_config_is_named(tmp_path: Path) -> None:
    write_modules(tmp_path, (POOLING, None))
    with pytest.raises(ExportError, match=r"1_Pooling: there is no config\.json"):
        read(tmp_path)


def test_a_default_prompt_must_be_among_the_prompts(tmp_path: Path) -> None:
    write_modules(tmp_path, (POOLING, {}))
    path = tmp_path / "config_sentence_transformers.json"
    write_json(path, {"prompts": {"query": "q: "}, "default_prompt_name": "document"})
    with pytest.raises(ExportError, match=r"default_prompt_name is 'document', .* its prompts \('query'\)"):
        read(tmp_path)


@pytest.mark.parametrize("length", [0, -1, "512", True])
def test_an_impossible_longest_text_is_refused(tmp_path: Path, length: Any) -> None:
    write_modules(tmp_path, (POOLING, {}), settings={"max_seq_length": length})
    with pytest.raises(ExportError, match=f"the longest text is given as {length!r} tokens"):
        read(tmp_path)
