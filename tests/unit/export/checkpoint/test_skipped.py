import pytest

from export.checkpoint.skipped import describe

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
    assert describe(names, layers=3) == said


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
    assert describe([name], layers=3) == ""


@pytest.mark.parametrize("name", ["encoder.layer.3.output.dense.bias", "bert/encoder/layer_3/output/dense/bias"])
def test_layers_above_those_of_the_configuration_are_named(name: str) -> None:
    assert describe([name], layers=3) == name
