import json
from dataclasses import replace

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import TYPE_INT32, BatchInput, BatchOutput, ModelConfig

from export.checkpoint.late_interaction import Expansion, LateInteraction
from export.errors import ExportError
from export.network.layout import INPUTS, REDUCTIONS, shape_of
from export.repository.configs import TEMPLATE, configs, step_settings
from export.repository.family import STEPS, Family
from tests.support.checkpoints.families import MINILM

OTHER = replace(
    MINILM,
    name="other",
    hidden_size=32,
    layers=(-2, -1),
    pooler=False,
    max_seq_len=64,
    pooling="cls",
    normalize=False,
    prompts={"query": 'find "this": é'},
    default_prompt_name="query",
    max_batch_size=16,
    instances=3,
    threads=2,
)

MULTI = Family(
    name="late",
    hidden_size=32,
    max_seq_len=64,
    prompts={"query": "", "document": ""},
    similarity="meanmaxsim",
    multi=LateInteraction(
        dimension=8,
        made="identity normalize",
        lengths={"query": 9},
        expansion=Expansion(id=4, length=9),
        skip_ids=(1, 2),
    ),
)


SEVERAL = replace(
    OTHER, lexical=(0, 3), vocab_size=99, multi=LateInteraction(8, "identity normalize", skips_first=True)
)

KINDS = (MINILM, OTHER, MULTI, SEVERAL)


def parsed(family: Family, template=TEMPLATE) -> dict[str, ModelConfig]:
    return {name: text_format.Parse(text, ModelConfig()) for name, text in configs(family, template).items()}


def parameters(config: ModelConfig) -> dict[str, str]:
    return {key: value.string_value for key, value in config.parameters.items()}


def test_the_default_family_is_the_committed_text():
    committed = text_format.Parse((TEMPLATE / "bert_pooling/config.pbtxt").read_text(), ModelConfig())
    of_version = {what: {1: parameters(committed)[f"{what}.1"]} for what in ("identity", "ranges")}
    for name, text in configs(MINILM, identities=of_version["identity"], ranges=of_version["ranges"]).items():
        assert text == (TEMPLATE / name / "config.pbtxt").read_text()


def test_models_of_another_family_name_each_other():
    models = parsed(OTHER)
    assert list(models) == ["other", "other_tokens", "other_tokenizer", "other_encoder", "other_pooling"]
    assert [config.name for config in models.values()] == list(models)
    assert [step.model_name for step in models["other"].ensemble_scheduling.step] == [
        "other_tokenizer",
        "other_encoder",
        "other_pooling",
    ]
    assert {config.max_batch_size for config in models.values()} == {16}


@pytest.mark.parametrize(
    ("settings", "dimension"),
    [
        ({"layers": (-1,)}, 32),
        ({"layers": (-2, -1)}, 64),
        ({"layers": (-1,), "pooling": "mean_max"}, 64),
        ({"layers": (-2, -1), "pooling": "mean_max"}, 128),
        ({"layers": (-2, -1), "pooling": "pooler"}, 32),
        ({"layers": (-2, -1), "pooling": "cls+weightedmean+max"}, 192),
        ({"layers": (-1,), "stages": ("tanh",), "stages_size": 8}, 8),
        ({"layers": (-1,), "stages": ("normalize",)}, 32),
    ],
)
def test_the_length_of_a_vector_is_said(settings, dimension):
    models = parsed(replace(OTHER, **settings))
    assert parameters(models["other_pooling"])["dimension"] == str(dimension)


def test_what_the_checkpoint_decides_is_set():
    models = parsed(OTHER)
    longest = str(max(map(len, OTHER.prompts.values())))
    for_clients = {"max_seq_len": "64", "prompt_characters": longest}
    assert parameters(models["other"]) == parameters(models["other_tokens"]) == for_clients
    assert parameters(models["other_tokenizer"]) == {
        "family": "other",
        "max_seq_len": "64",
        "prompts": json.dumps(OTHER.prompts, ensure_ascii=False),
        "default_prompt_name": "query",
    }
    assert parameters(models["other_pooling"]) == {
        "dimension": "64",
        "layers": "[-2, -1]",
        "pooling": "cls",
        "normalize": "false",
    }
    encoder = models["other_encoder"]
    assert parameters(encoder) == {
        "family": "other",
        "threads": "2",
        "token_budget": "384",
        "max_queue_size": "4096",
        "queue_timeout": "30",
    }
    assert encoder.instance_group[0].count == 3
    dims = {tensor.name: list(tensor.dims) for tensor in encoder.output}
    assert dims == {"token_embeddings": [-1, 64], "pooled": [4, 64]}
    assert list(models["other_tokens"].output[0].dims) == [-1, 64]
    assert [list(tensor.dims) for tensor in models["other_pooling"].input] == [[4, 64]]


def test_what_more_the_pooling_needs_is_written_where_it_is_not_the_usual():
    usual = parameters(parsed(OTHER)["other_pooling"])
    more = replace(OTHER, reductions=(*REDUCTIONS, "weightedmean"), stages=("normalize",), similarity="dot")
    models = parsed(more)
    written = {
        "reductions": '["mean", "max", "first", "last", "weightedmean"]',
        "stages": '["normalize"]',
        "similarity": "dot",
    }
    assert parameters(models["other_pooling"]) == {**usual, **written}
    pooled = [tensor for tensor in models["other_encoder"].output if tensor.name == "pooled"]
    assert [list(tensor.dims) for tensor in (*pooled, *models["other_pooling"].input)] == [[5, 64], [5, 64]]
    assert list(models["other_pooling"].model_warmup[0].inputs["pooled"].dims) == [5, 64]
    del written["similarity"]  # which decides no vector
    assert step_settings(more) == {**step_settings(OTHER), **written}


def test_how_a_tokenizer_cuts_is_written_where_it_is_not_the_usual_way():
    usual = parameters(parsed(OTHER)["other_tokenizer"])
    cut = replace(OTHER, truncation_side="left", split_special_tokens=True, include_prompt=False)
    more = {"truncation_side": "left", "split_special_tokens": "true", "include_prompt": "false"}
    assert parameters(parsed(cut)["other_tokenizer"]) == {**usual, **more}
    assert step_settings(cut) == {**step_settings(OTHER), **more}


def test_the_pooler_is_mapped_only_where_there_is_one():
    for family, has in ((MINILM, True), (OTHER, False)):
        models = list(parsed(family).values())
        assert ("pooler_output" in models[0].ensemble_scheduling.step[1].output_map) is has
        assert ("pooler_output" in models[0].ensemble_scheduling.step[2].input_map) is has
        assert ("pooler_output" in models[4].model_warmup[0].inputs) is has


def test_an_ensemble_hands_on_only_tensors_that_its_steps_have():
    for family in (*KINDS, *(replace(family, backend="onnxruntime") for family in KINDS)):
        models = parsed(family)
        for name in (name for name, config in models.items() if config.platform == "ensemble"):
            made = {tensor.name for tensor in models[name].input}
            for step in models[name].ensemble_scheduling.step:
                model = models[step.model_name]
                assert set(step.input_map) <= {tensor.name for tensor in model.input}
                assert set(step.input_map) >= {tensor.name for tensor in model.input if not tensor.optional}
                assert set(step.input_map.values()) <= made
                assert set(step.output_map) <= {tensor.name for tensor in model.output}
                made |= set(step.output_map.values())
            assert {tensor.name for tensor in models[name].output} <= made


def test_the_native_backend_gets_ragged_batches():
    encoder = parsed(replace(MINILM, backend="onnxruntime", threads=2))["bert_encoder"]
    assert encoder.backend == "onnxruntime"
    assert all(tensor.allow_ragged_batch for tensor in encoder.input)
    assert {shape.kind for shape in encoder.batch_input} == {BatchInput.BATCH_ITEM_SHAPE}
    # INT32, which holds every width; FP32 rounds those above 2**24, and would shift the rows behind.
    assert {shape.data_type for shape in encoder.batch_input} == {TYPE_INT32}
    shapes = {tuple(shape.source_input): tuple(shape.target_name) for shape in encoder.batch_input}
    assert shapes == {(name,): (shape_of(name),) for name in INPUTS}
    (scatter,) = encoder.batch_output
    assert (scatter.kind, list(scatter.source_input)) == (
        BatchOutput.BATCH_SCATTER_WITH_INPUT_SHAPE,
        ["input_ids"],
    )
    assert list(scatter.target_name) == ["token_embeddings"]
    assert parameters(encoder) == {"intra_op_thread_count": "2", "memory.enable_memory_arena_shrinkage": "cpu:0"}


def test_a_late_interaction_family_says_what_is_done_with_texts_and_tokens():
    models = parsed(MULTI)
    assert list(models) == ["late_multi", "late_tokenizer", "late_encoder", "late_pooling"]
    (text,) = models["late_multi"].input
    assert list(text.dims) == [1]
    tokenizer, pooling = parameters(models["late_tokenizer"]), parameters(models["late_pooling"])
    assert json.loads(tokenizer["lengths"]) == {"query": 9}
    assert json.loads(tokenizer["expansion"]) == {"id": 4, "length": 9, "fixed": True, "attend": False}
    assert pooling == {
        "multi": "identity normalize",
        "dimension": "8",
        "similarity": "meanmaxsim",
        "skip_ids": "[1, 2]",
        "skip_types": '["document"]',
    }
    assert {"lengths", "expansion"}.isdisjoint(parameters(parsed(OTHER)["other_tokenizer"]))
    bare = parsed(replace(MULTI, multi=LateInteraction(8, "normalize")))
    assert {"lengths", "expansion"}.isdisjoint(parameters(bare["late_tokenizer"]))
    assert "skip_ids" not in parameters(bare["late_pooling"])
    encoder = parsed(replace(MULTI, backend="onnxruntime"))["late_encoder"]
    assert {tensor.name: list(tensor.dims) for tensor in encoder.output} == {"token_vectors": [-1, 8]}
    assert [list(output.target_name) for output in encoder.batch_output] == [["token_vectors"]]


def test_a_family_of_several_kinds_has_an_ensemble_for_each_and_steps_for_all():
    models = parsed(replace(SEVERAL, backend="onnxruntime"))
    assert list(models) == [f"other{role}" for role in ("", "_sparse", "_multi", "_tokens", *STEPS)]
    assert [[*models[f"other{role}"].input[0].dims] for role in ("", "_sparse", "_multi")] == [[-1], [-1], [1]]
    encoder, pooling = models["other_encoder"], models["other_pooling"]
    tokens = {"token_embeddings": [-1, 64], "token_weights": [-1, 1], "token_vectors": [-1, 8]}
    assert {tensor.name: list(tensor.dims) for tensor in encoder.output} == {**tokens, "pooled": [4, 64]}
    assert {name for output in encoder.batch_output for name in output.target_name} == {*tokens}
    of_ensembles = {
        role: (step.model_name, {*step.input_map}, {*step.output_map})
        for role in ("", "_sparse", "_multi")
        for step in models[f"other{role}"].ensemble_scheduling.step[2:]
    }
    ids = {"input_ids", "attention_mask"}
    assert of_ensembles == {
        "": ("other_pooling", {"pooled"}, {"EMBEDDING"}),
        "_sparse": ("other_pooling", {"token_weights", *ids}, {"INDICES", "WEIGHTS"}),
        "_multi": ("other_pooling", {"token_vectors", *ids}, {"TOKEN_EMBEDDING", "ATTENTION_MASK"}),
    }
    assert {tensor.name for tensor in pooling.input} == {"pooled", "token_weights", "token_vectors", *ids}
    assert list(pooling.model_warmup[0].inputs) == ["pooled"]
    more = {
        "lexical": "[0, 3]",
        "sparse_dimension": "99",
        "multi": "identity normalize",
        "multi_dimension": "8",
        "skips_first": "true",
    }
    assert parameters(pooling) == {**parameters(parsed(OTHER)["other_pooling"]), **more}
    assert step_settings(SEVERAL) == {**step_settings(OTHER), **more}


@pytest.mark.parametrize(
    "change",
    [
        {"made": "identity"},
        {"lengths": {}},
        {"expansion": None},
        {"expansion": Expansion(id=4, length=9, attend=True)},
        {"skip_ids": (1,)},
        {"skip_types": ("query",)},
    ],
    ids=str,
)
def test_what_is_done_with_tokens_is_part_of_what_vectors_are(change):
    assert MULTI.multi
    assert step_settings(MULTI) != step_settings(replace(MULTI, multi=replace(MULTI.multi, **change)))


def test_every_queue_has_a_limit_and_a_timeout():
    for family in (OTHER, replace(OTHER, backend="onnxruntime")):
        for name, config in parsed(family).items():
            policy = config.dynamic_batching.default_queue_policy
            if name == "other_encoder" and config.backend == "python":  # its model.py keeps them
                assert int(parameters(config)["max_queue_size"]) > 0 and float(parameters(config)["queue_timeout"]) > 0
                assert not policy.ListFields()
            elif config.platform != "ensemble":
                assert policy.max_queue_size > 0 and policy.default_timeout_microseconds > 0, name


def test_a_family_written_over_the_template_can_be_its_template_again(tmp_path):
    for family in (OTHER, replace(OTHER, backend="onnxruntime", stages=("tanh",), stages_size=8)):
        for name, text in configs(replace(family, name="bert")).items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "config.pbtxt").write_text(text)
        assert parsed(MINILM, tmp_path) == parsed(MINILM)


def test_every_model_has_the_identities_of_its_versions():
    for config in parsed(OTHER).values():
        assert not any(key.startswith("identity.") for key in config.parameters)
    for text in configs(OTHER, identities={1: "one", 12: "twelve"}).values():
        found = parameters(text_format.Parse(text, ModelConfig()))
        assert {key: value for key, value in found.items() if key.startswith("identity")} == {
            "identity.1": "one",
            "identity.12": "twelve",
        }


def test_the_pooling_alone_has_the_ranges_of_its_versions():
    found = {}
    for name, text in configs(OTHER, ranges={1: "one", 12: "twelve"}).items():
        of_model = parameters(text_format.Parse(text, ModelConfig()))
        found |= {(name, key): value for key, value in of_model.items() if key.startswith("ranges")}
    assert found == {("other_pooling", "ranges.1"): "one", ("other_pooling", "ranges.12"): "twelve"}


def test_a_version_policy_is_kept_and_nothing_else():
    there = ModelConfig(name="other")
    there.version_policy.specific.versions.append(3)
    there.response_cache.enable = True
    models = {
        name: text_format.Parse(text, ModelConfig()) for name, text in configs(OTHER, there={"other": there}).items()
    }
    assert list(models["other"].version_policy.specific.versions) == [3]
    assert not models["other"].HasField("response_cache")
    assert not models["other_tokens"].HasField("version_policy")


def test_a_damaged_template_is_named(tmp_path):
    with pytest.raises(ExportError, match="bert.config.pbtxt"):
        configs(MINILM, tmp_path)
