import base64

import numpy as np
import pytest

from client_sdk import InvalidArgument, ModelNotFound, ServerError, VersionChanged
from client_sdk._call.questions import (
    ensemble_roles,
    labels_of,
    measured_ranges,
    missing_model,
    model_info,
    multi_dimension,
    similarity_metric,
    sparse_dimension,
)
from client_sdk._transport.address import parse_address
from client_sdk._transport.base import Query
from client_sdk._transport.peer import Peer


def ask(questions, answers):
    """Runs the questions against a dict of answers; a model of which it says nothing is not there."""
    try:
        query = next(questions)
        while True:
            missing = query not in answers
            query = questions.throw(ModelNotFound(query.model)) if missing else questions.send(answers[query])
    except StopIteration as end:
        return end.value


def family(**parameters):
    defaults = {
        "max_seq_len": "256",
        "prompts": '{"query": "query: "}',
        "default_prompt_name": "",
        "pooling": "mean",
        "normalize": "true",
        "dimension": "384",
        "layers": "[-1]",
    }
    values = {name: {"string_value": value} for name, value in (defaults | parameters).items()}
    steps = [{"model_name": "bert_encoder"}, {"model_name": "bert_pooling"}]
    return {
        Query("config", "bert"): {"max_batch_size": 64, "ensemble_scheduling": {"step": steps}},
        Query("config", "bert_encoder"): {"backend": "onnxruntime"},
        Query("config", "bert_pooling"): {"backend": "python", "parameters": values},
        Query("metadata", "bert"): {"versions": ["2", "10"]},
        Query("server"): {"version": "2.51.0"},
    }


def test_everything_is_read_from_the_configs():
    info = ask(model_info("bert"), family())
    assert (info.model, info.version, info.dimension, info.max_seq_len) == ("bert", 10, 384, 256)
    assert info.versions == (2, 10)
    assert (info.pooling, info.normalize, info.layers, info.max_batch_size) == ("mean", True, (-1,), 64)
    assert (info.prompts, info.default_prompt_name) == ({"query": "query: "}, None)
    assert (info.backend, info.server_version) == ("onnxruntime", "2.51.0")
    assert info.kinds == {"dense": 384}


def test_a_family_of_several_kinds_says_the_size_of_each():
    several = {"lexical": "[0, 2]", "sparse_dimension": "700", "multi": "identity normalize", "multi_dimension": "16"}
    info = ask(model_info("bert"), family(**several))
    assert info.kinds == {"dense": 384, "sparse": 700, "multi": 16}
    assert (info.dimension, info.pooling, info.multi, info.splade) == (384, "mean", "identity normalize", "")
    assert ask(sparse_dimension("bert"), family(**several)) == (700, None)
    assert ask(multi_dimension("bert"), family(**several)) == (16, None)
    assert ask(ensemble_roles("bert"), family(**several)) == ("", "_sparse", "_multi")
    assert ask(similarity_metric("bert"), family(**several, similarity="dot")) == "dot"
    del several["multi"]
    with pytest.raises(
        InvalidArgument,
        match=r"gives vectors \(encode, encode_tokens\) and sparse vectors \(encode_sparse\), not vectors for late",
    ):
        ask(multi_dimension("bert"), family(**several))
    with pytest.raises(InvalidArgument, match=r"gives vectors .* and sparse vectors .*, not scores of labels"):
        ask(labels_of("bert"), family(**several))


def test_the_identity_is_that_of_the_version_that_answers():
    answers = family()
    assert ask(model_info("bert"), answers).identity == ""
    answers[Query("config", "bert")]["parameters"] = {
        f"identity.{version}": {"string_value": f"of {version}"} for version in (2, 10, 11)
    }
    assert ask(model_info("bert"), answers).identity == "of 10"


def test_answers_of_two_models_are_no_answer():
    answers = family(**{"identity.1": "x" * 32})
    answers[Query("config", "bert")]["parameters"] = {"identity.1": {"string_value": "y" * 32}}
    with pytest.raises(VersionChanged, match=r"'bert_pooling' is of another model 'bert' \(version 1: x+\).*: y+\)"):
        ask(model_info("bert"), answers)
    answers[Query("config", "bert")]["parameters"] = {"identity.1": {"string_value": "x" * 32}}
    assert ask(model_info("bert"), answers).dimension == 384


def test_a_model_that_is_no_text_encoder_is_said_to_be_none():
    answers = {
        Query("config", "resnet"): {"max_batch_size": 8},
        Query("metadata", "resnet"): {"versions": ["1"]},
        Query("server"): {},
    }
    with pytest.raises(ServerError, match="'resnet' .* does not describe a text encoder"):
        ask(model_info("resnet"), answers)


@pytest.mark.parametrize(("config", "limit"), [({"max_batch_size": 8}, 8), ({}, 1)])
def test_the_limit_is_at_least_one_text(config, limit):
    peer = Peer(parse_address("host"))
    peer.note(Query("config", "bert"), config)
    assert peer.limit("bert") == limit


@pytest.mark.parametrize(
    ("names", "family", "wanted", "message"),
    [
        (["a_sparse", "a_sparse_tokenizer", "a_sparse_pooling"], "a", "a", "no model 'a' at HOST; there: a_sparse$"),
        (["bert", "bert_tokenizer", "bert_encoder"], "nope", "nope_tokens", "no model 'nope' at HOST; there: bert$"),
        (
            ["bert", "bert_tokenizer", "bert_pooling"],
            "bert",
            "bert_tokens",
            "'bert' at HOST gives scores .score, rerank, classify., and nothing else$",
        ),
        (["bert", "bert_tokenizer"], "bert", "bert_encoder", "no model 'bert_encoder' at HOST; there: bert$"),
        (
            ["splade_sparse", "splade_tokenizer", "splade_pooling"],
            "splade",
            "splade",
            "'splade' at HOST gives sparse vectors .encode_sparse., and nothing else$",
        ),
        (["bert_tokenizer", "bert_encoder"], "bert", "bert", "no model 'bert' at HOST; there: bert_encoder, bert_tok"),
        (
            ["splade_sparse", "splade_tokenizer", "splade_pooling"],
            "splade_sparse",
            "splade_sparse",
            "'splade_sparse' at HOST is a part of the family 'splade': give that name$",
        ),
        (["bert", "bert_tokenizer"], "bert_tokenizer", "bert_tokenizer_tokens", "a part of the family 'bert': give"),
        (["bert", "bert_tokenizer"], "bert_multi", "bert_multi", "no model 'bert_multi' at HOST; there: bert$"),
        (["resnet", "gpt"], "bert", "bert", "there: gpt, resnet$"),
        (["resnet", "gpt"], "gpt", "gpt", "'gpt' at HOST is no family that this project's export has written$"),
        ([], "bert", "bert", "there: none$"),
    ],
)
def test_a_missing_model_is_named_with_those_that_are_there(names, family, wanted, message):
    answers = {
        Query("statistics"): {"model_stats": [{"name": name} for name in names]},
        Query("config", "bert_pooling"): {"parameters": {"labels": {"string_value": '["fits"]'}}},
        Query("config", "splade_pooling"): {"parameters": {"splade": {"string_value": "max relu"}}},
    }
    error = ask(missing_model(family, wanted, "HOST"), answers)
    with pytest.raises(InvalidArgument if "nothing else" in message else ModelNotFound, match=message):
        raise error


def test_a_missing_model_is_named_with_those_of_every_server():
    questions = missing_model("nope", "nope", "HOSTS", servers=2)
    answers = [{"model_stats": [{"name": name} for name in names]} for names in (["a", "a_tokenizer"], ["b"])]
    assert next(questions) == questions.send(answers[0]) == Query("statistics")
    with pytest.raises(StopIteration) as end:
        questions.send({"model_stats": [*answers[1]["model_stats"], {"name": "b_tokenizer"}]})
    assert str(end.value.value) == "there is no model 'nope' at HOSTS; there: a, b"


def test_a_missing_version_is_named_with_those_that_are_there():
    models = [("bert", "10"), ("bert", "2"), ("bert_tokens", "3")]
    statistics = {"model_stats": [{"name": name, "version": version} for name, version in models]}
    error = ask(missing_model("bert", "bert", "HOST", 7), {Query("statistics"): statistics})
    assert str(error) == "there is no version 7 of model 'bert' at HOST; there: 2, 10"


RANGES = np.array([[-1, -2], [1, 2]], np.float32)


def measured(**others):
    """A family of vectors of two numbers, of whose version 10 the export has measured the ranges."""
    written = base64.b64encode(RANGES.astype("<f4").tobytes()).decode()
    named = {"ranges.10": written, "identity.2": "two", "identity.10": "ten", "dimension": "2"}
    return family(**named, **others)


@pytest.mark.parametrize("version", [None, 10])
def test_ranges_are_those_of_the_version_that_answers(version):
    parameters = {"pooling": "mean", "normalize": True, "truncate_dim": 2, "max_seq_len": 8}
    found = ask(measured_ranges("bert", "int8", parameters, version), measured())
    assert (found.ranges == RANGES).all() and found.identity == "ten"


@pytest.mark.parametrize(
    ("parameters", "version", "others", "error", "message"),
    [
        ({}, 2, {}, InvalidArgument, "has measured no ranges, as older ones do not: export it again, or give ranges="),
        ({"pooling": "cls"}, None, {}, InvalidArgument, "with pooling='cls': .* with pooling mean: give ranges="),
        ({"normalize": False}, None, {}, InvalidArgument, "with normalize=False: .* with normalize True"),
        ({"truncate_dim": 1}, None, {}, InvalidArgument, "with truncate_dim=1: .* with truncate_dim 2"),
        ({}, None, {"labels": "[]", "pooling": None}, InvalidArgument, r"'bert' gives scores .*, not dense vectors"),
        ({}, None, {"ranges.10": "no"}, ServerError, "the ranges in the configuration of model 'bert' cannot be read"),
    ],
)
def test_vectors_of_which_no_ranges_are_known_have_none(parameters, version, others, error, message):
    answers = measured()
    said = answers[Query("config", "bert_pooling")]["parameters"]
    said |= {name: {"string_value": value} for name, value in others.items()}
    for name in [name for name, value in others.items() if value is None]:
        del said[name]
    with pytest.raises(error, match=message):
        ask(measured_ranges("bert", "uint8", parameters, version), answers)
