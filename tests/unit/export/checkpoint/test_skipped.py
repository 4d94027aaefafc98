import pytest

from export.checkpoint.skipped import describe
from tests.support.checkpoints.architectures import VARIANTS, read, taken

BERT = read(VARIANTS["bert"])  # of three layers

ADAM = [f"bert/pooler/dense/{name}/adam_{slot}" for name in ("bias", "kernel") for slot in "mv"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], ""),
        (["classifier.weight"], "classifier.weight"),
        (["classifier.bias", "classifier.weight"], "classifier.bias and classifier.weight"),
        (["a", "b", "c", "d", "e", "f"], "a, b, c, d and 2 more"),
        (["global_step", *ADAM], "global_step and 4 optimizer slots"),
        (["loss/Adam"], "1 optimizer slot"),
        (["a", "b", "c", "d", "e", *ADAM], "a, b, c, d, 1 more and 4 optimizer slots"),
    ],
)
def test_heads_are_named_and_slots_counted(names: list[str], said: str) -> None:
    assert describe(names, BERT) == said


@pytest.mark.parametrize(
    "name",
    [
        "bert.embeddings.position_ids",
        "embeddings.position_ids",
        "bert.encoder.layer.2.output.dense.weight",
        "encoder.layer.0.output.dense.weight",
        "bert/encoder/layer_2/output/dense/kernel",
        "bert.pooler.dense.weight",
        "bert/pooler/dense/bias",
    ],
)
def test_what_the_user_left_out_and_buffers_are_not_spoken_of(name: str) -> None:
    assert describe([name], BERT) == ""


@pytest.mark.parametrize("name", ["encoder.layer.3.output.dense.bias", "bert/encoder/layer_3/output/dense/bias"])
def test_layers_above_those_of_the_configuration_are_named(name: str) -> None:
    assert describe([name], BERT) == name


ABOVE = {
    "distilbert": "transformer.layer.3.ffn.lin2.weight",
    "albert in groups": "encoder.albert_layer_groups.2.albert_layers.0.ffn.weight",
    "modernbert": "model.layers.4.mlp.Wo.weight",
    "eurobert": "layers.3.mlp.down_proj.weight",
    "nomic_bert": "encoder.layers.3.mlp.fc2.weight",
    "gte": "new.encoder.layer.3.mlp.down_proj.weight",
    "mpnet": "encoder.layer.3.attention.attn.q.weight",
}


@pytest.mark.parametrize("name", ABOVE)
def test_a_layer_above_those_of_the_configuration_is_named_in_any_architecture(name: str) -> None:
    assert describe([ABOVE[name]], read(VARIANTS[name])) == ABOVE[name]


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("name", VARIANTS)
def test_of_no_architecture_are_layers_that_were_left_out_spoken_of(name: str, prefix: str) -> None:
    encoder = read(VARIANTS[name])
    left_out = taken(encoder, pooler=encoder.pooler is not None).keys() - taken(encoder, layers=(0,)).keys()
    assert left_out
    assert describe(sorted(prefix + weight for weight in left_out), encoder) == ""


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("nomic_bert", "encoder.layers.2.attn.Wqkv.weight"),
        ("gte", "new.encoder.layer.2.attention.qkv_proj.bias"),
        ("jina_embeddings_v3", "encoder.layers.0.mixer.out_proj.bias"),
        ("eurobert", "rotary_emb.inv_freq"),
        ("nomic_bert", "encoder.layers.0.attn.rotary_emb.inv_freq"),
        ("albert", "albert.pooler.bias"),
    ],
)
def test_nor_are_they_under_other_names(name: str, weight: str) -> None:
    assert describe([weight], read(VARIANTS[name])) == ""


@pytest.mark.parametrize(
    "weight", ["head.dense.weight", "classifier.weight", "lm_head.layer_norm.weight", "decoder.bias"]
)
@pytest.mark.parametrize("name", ["modernbert", "eurobert", "roberta", "deberta-v2"])
def test_heads_are_named_in_any_architecture(name: str, weight: str) -> None:
    assert describe([weight], read(VARIANTS[name])) == weight
