"""What is read of the config.json of each architecture, and what is refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.checkpoint.weights import SafetensorsWeights
from export.errors import ExportError
from export.network import architectures, network
from export.network.architectures.config import Config
from export.network.architectures.encoder import OtherName
from tests.support.checkpoints.architectures import VARIANTS, read, taken
from tests.support.checkpoints.folders import write_safetensors

PATH = Path("config.json")


@pytest.mark.parametrize("model_type", architectures.READERS)
def test_absent_keys_have_the_values_that_transformers_gives_them(model_type):
    from transformers import AutoConfig

    # Of which there is none in the file unless it is wanted.
    given = {"roc_bert": {"concat_input": False}}.get(model_type, {})
    written = AutoConfig.for_model(model_type, **given).to_dict()
    assert read({"model_type": model_type, **given}) == read(written)


def test_every_architecture_has_a_variant():
    assert {settings["model_type"] for settings in VARIANTS.values()} == set(architectures.READERS)


MODERN_ROPE = {"full_attention": {"rope_type": "linear", "factor": 2.0}}
REFUSED = [
    ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
    ("bert", {"num_attention_heads": 5}, "hidden_size 24 cannot be shared equally by num_attention_heads 5"),
    ("bert", {"is_decoder": True}, "is_decoder is True, a network that attends to the left only"),
    ("bert", {"num_hidden_layers": 2**31 - 1}, "num_hidden_layers is 2147483647; export works for at most 1000"),
    ("ernie", {"task_type_vocab_size": 0}, "task_type_vocab_size is 0"),
    ("roc_bert", {"concat_input": True}, "enable_pronunciation is None; it takes inputs beside token ids"),
    ("roc_bert", {"concat_input": True, "enable_pronunciation": False}, "enable_shape is None"),
    ("electra", {"embedding_size": 0}, "embedding_size is 0"),
    ("roberta", {"pad_token_id": 65}, "max_position_embeddings is 66, which leaves no position"),
    ("xlm-roberta", {"pad_token_id": None}, "pad_token_id is None; an int of 0 on is expected"),
    ("camembert", {"hidden_act": "mish"}, "hidden_act is 'mish'; export works for gelu"),
    ("distilbert", {"n_heads": 7}, "dim 24 cannot be shared equally by n_heads 7"),
    ("distilbert", {"activation": []}, r"activation is \[\]; text is expected"),
    ("mpnet", {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets is 64; export works for 32"),
    ("albert", {"inner_group_num": 2}, "inner_group_num is 2; export works for 1"),
    ("albert", {"num_hidden_groups": 10**6}, "num_hidden_groups is 1000000; export works for at most 1000"),
    ("deberta", {"talking_head": True}, "talking_head is True; export works for False"),
    ("deberta", {"pos_att_type": ["p2p"]}, r"pos_att_type is \['p2p'\]; a list of c2p and p2c is expected"),
    (
        "deberta",
        {"pos_att_type": []},
        r"pos_att_type is \[\]; relative_attention is true, and this says nothing of how",
    ),
    ("deberta", {"relative_attention": False}, "pos_att_type is .*relative_attention, without which"),
    ("deberta", {"max_relative_positions": "x"}, "max_relative_positions is 'x'; an int is expected"),
    ("deberta-v2", {"pos_att_type": "c2p|p2p"}, "pos_att_type is 'c2p|p2p'"),
    ("deberta-v2", {"position_buckets": "256"}, "position_buckets is '256'; an int is expected"),
    ("deberta-v2", {"position_buckets": 1}, "position_buckets is 1; 2 on is expected"),
    ("deberta-v2", {"position_buckets": 130}, "position_buckets is 130; .*longest distance, which is 66"),
    ("deberta-v2", {"attention_head_size": 8}, "attention_head_size is 8"),
    ("deberta-v2", {"norm_rel_ebd": ["layer_norm"]}, "norm_rel_ebd is .*text is expected"),
    ("deberta-v2", {"conv_kernel_size": 4}, "conv_kernel_size is 4; an odd number is expected"),
    ("deberta-v2", {"conv_kernel_size": 3, "conv_groups": 5}, "conv_groups is 5; a divisor of hidden_size 24"),
    ("deberta-v2", {"conv_kernel_size": 3, "conv_act": None}, "conv_act is None"),
    ("modernbert", {"layer_types": ["full_attention"] * 3}, "layer_types is .*4 times full_attention or sliding_"),
    ("modernbert", {"layer_types": ["full_attention"] * 3 + ["x"]}, "layer_types is "),
    ("modernbert", {"rope_parameters": MODERN_ROPE}, "rope_type is 'linear'; export works for default"),
    ("modernbert", {"rope_parameters": {"full_attention": 5}}, "rope_parameters is .*an object is expected, with one"),
    ("modernbert", {"rope_scaling": "yarn"}, "rope_scaling is 'yarn'; an object is expected"),
    ("modernbert", {"num_attention_heads": 8}, "heads are 3 wide .*an even width is expected"),
    ("nomic_bert", {"rope_parameters": {"rope_type": "yarn"}}, "rope_type is 'yarn'; export works for default"),
    ("nomic_bert", {"rope_scaling": {"type": "dynamic"}}, "rope_type is 'dynamic'"),
    ("nomic_bert", {"rope_scaling": [1]}, r"rope_scaling is \[1\]; an object is expected"),
    ("nomic_bert", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor is 0.5"),
    (
        "nomic_bert",
        {"max_position_embeddings": 2**31 - 1},
        "max_position_embeddings is 2147483647; export works for at",
    ),
    ("gte", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; export works for"),
    ("gte", {"position_embedding_type": "absolute"}, "position_embedding_type is 'absolute'; export works for 'rope'"),
    ("gte", {"layer_norm_type": "rms_norm"}, "layer_norm_type is 'rms_norm'"),
    ("gte", {"logn_attention_scale": True}, "logn_attention_scale is True"),
    ("gte", {"rope_theta": 1e-30}, "rope_theta is 1e-30; a number of 1 on is expected"),
    ("jina_embeddings_v3", {"head_dim": 5}, "heads are 5 wide"),
    ("jina_embeddings_v3", {"rope_theta": None}, "rope_theta is None; a positive float is expected"),
    ("eurobert", {"head_dim": 7}, r"heads are 7 wide \(head_dim, .*an even width is expected"),
    ("eurobert", {"head_dim": 2**30}, "head_dim is 1073741824; export works for at most 65536"),
    ("eurobert", {"num_key_value_heads": 3}, "num_key_value_heads is 3; a divisor of num_attention_heads 4"),
    ("eurobert", {"rms_norm_eps": 0}, "rms_norm_eps is 0; a positive float is expected"),
]


@pytest.mark.parametrize(("name", "values", "said"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_network_that_is_not_written_is_refused_by_what_makes_it_one(name, values, said):
    with pytest.raises(ExportError, match=rf"config\.json: {said}") as error:
        read(VARIANTS[name] | values)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_what_the_own_code_of_rotated_networks_says_of_positions_is_what_they_have():
    said = {"position_embedding_type": "rope", "layer_norm_type": "layer_norm", "logn_attention_scale": False}
    assert read(VARIANTS["gte"] | said) == read(VARIANTS["gte"])
    said = {"position_embedding_type": "rotary"}
    assert read(VARIANTS["jina_embeddings_v3"] | said) == read(VARIANTS["jina_embeddings_v3"])


SENSELESS: list[Any] = [
    *(None, [], {}, "x", "", True, False, 0, -1, 0.5, 2**31 - 1, 10**40, -(10**40), 1e400, float("nan")),
    *([None], [[1]], {"x": None}, {"rope_type": {}}, {"rope_theta": "x"}, {"full_attention": []}, ["c2p", 5]),
]


@pytest.mark.parametrize("name", VARIANTS)
def test_whatever_a_key_holds_there_is_an_encoder_or_one_line_that_names_it(name):
    """Nor does any take memory or time without bound."""
    config = Config(PATH, VARIANTS[name])
    whole = architectures.READERS[VARIANTS[name]["model_type"]](config)
    for key in {*config.read, "rope_parameters", "rope_scaling", "head_dim", "layer_types"} - {"model_type"}:
        for value in SENSELESS:
            try:
                encoder = read(VARIANTS[name] | {key: value})
            except ExportError as error:
                words = str(error)
                assert words.startswith(f"{PATH}: ") and "\n" not in words and len(words) < 500, (key, value)
            else:
                assert encoder.model_type == whole.model_type


@pytest.mark.parametrize("name", ["nomic_bert", "gte", "jina_embeddings_v3"])
def test_weights_under_the_names_of_the_first_checkpoints_are_the_same(tmp_path, name):
    encoder = read(VARIANTS[name])
    weights = taken(encoder)
    for folder, tensors in (("new", weights), ("old", renamed(weights, encoder.other_names))):
        (tmp_path / folder).mkdir()
        write_safetensors(tmp_path / folder, tensors)
    networks = []
    for folder in ("new", "old"):
        anchor = f"{encoder.words}.weight"
        own = SafetensorsWeights(tmp_path / folder, anchor=anchor, others=encoder.other_names)
        networks.append(network.build(encoder, own))
        assert own.skipped() == []
    assert networks[0] == networks[1]


def renamed(weights: dict[str, Any], names: tuple[OtherName, ...]) -> dict[str, Any]:
    """Tensors as they were first named, and put together."""
    found: dict[str, list[Any]] = {}
    for name, value in weights.items():
        for other in names:
            stored, matches = re.subn(f"^{other.pattern}", other.name, name)
            if matches:
                found.setdefault(stored, [None] * other.parts)[other.part] = value
                break
        else:
            found[name] = [value]
    return {name: np.concatenate(parts) for name, parts in found.items()}
