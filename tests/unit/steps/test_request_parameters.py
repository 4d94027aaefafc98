from __future__ import annotations

import json

import pytest

from tests.support.tokenizer_step import request_parameters

Refused = request_parameters.Refused


def read(parameters: object, identity: str | None = None) -> dict[str, object]:
    return request_parameters.read(json.dumps(parameters), identity)


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "x-request-id",
        "Content-Type",
        "content-length",
        "user-agent",
        "Authorization",
        "cookie",
        "traceparent",
        "tracestate",
        "baggage",
        "b3",
        "Forwarded",
        "Accept",
        "Connection",
        "x-prompt",
        "pooling-proxy-id",
        "triton_enable_empty_final_response",
        "triton_grpc_error",
    ],
)
def test_headers_that_triton_forwards_and_its_own_parameters_are_no_options(name):
    assert read({name: "\u0000" + "any value" * 99, "truncate": False}) == {"truncate": False}


@pytest.mark.parametrize(
    "name",
    [
        "normalise",
        "max_seq_length",
        "poolling",
        "pooling_mode",
        "truncation",
        "Prompt",
        "prompt ",
        "",
        "max-seq-len",
        "Prompt-Name",
        "x" * 10_000,
    ],
)
def test_a_misspelt_option_is_refused_by_its_name(name):
    with pytest.raises(Refused, match="unknown parameter .*; the parameters are max_seq_len, ") as refusal:
        read({name: True})
    assert len(str(refusal.value)) < 500 and refusal.value.code == "INVALID_ARG"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_seq_len": 16.0}, "max_seq_len is 16.0; it takes an integer"),
        ({"max_seq_len": True}, "max_seq_len is True; it takes an integer"),
        ({"max_seq_len": "x" * 100_000}, "max_seq_len is 'x+...; it takes an integer"),
        ({"truncate": 0}, "truncate is 0; it takes true or false"),
        ({"truncate": None}, "truncate is None; it takes true or false"),
        ({"prompt": 1}, "prompt is 1; it takes a string"),
        ({"prompt": ["a"]}, r"prompt is \['a'\]; it takes a string"),
        ({"identity": 5}, "identity is 5; it takes a string"),
        ({"pooling": 5}, "pooling is 5; it takes a string"),
        ({"normalize": "yes"}, "normalize is 'yes'; it takes true or false"),
        ({"truncate_dim": 2.5}, "truncate_dim is 2.5; it takes an integer"),
        ({"prompt": "\ud800"}, "prompt holds half of a surrogate pair"),
        ({"prompt": "é" * 8193}, "prompt has 16386 bytes; it may have 16384 at most"),
        ({"prompt": "x" * (1 << 20)}, "the parameters have .* they may have 131072 in all"),
        ({"x-header": "x" * (1 << 20)}, "the parameters have .* they may have 131072 in all"),
    ],
)
def test_a_wrong_value_is_refused_in_one_short_line(parameters, message):
    with pytest.raises(Refused, match=message) as refusal:
        read(parameters)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 500


@pytest.mark.parametrize("raw", ["{", '{"a": inf}', "[" * 50_000, '{"max_seq_len": ' + "9" * 5000 + "}"])
def test_parameters_that_are_no_json_are_refused(raw):
    with pytest.raises(Refused, match="the parameters cannot be read"):
        request_parameters.read(raw)


def test_the_longest_prompt_may_be_given_however_json_writes_it():
    prompt = "\u0001" * request_parameters.MAX_PROMPT_BYTES
    assert read({"prompt": prompt}) == {"prompt": prompt}


def test_a_request_for_another_model_is_not_found():
    assert read({}, identity="a" * 32) == read({"identity": "a" * 32}, identity="a" * 32) == {}
    assert read({"identity": "b" * 32}) == {}  # an export without one
    with pytest.raises(Refused) as refusal:
        read({"identity": "b" * 32}, identity="a" * 32)
    assert refusal.value.code == "NOT_FOUND"
    assert str(refusal.value) == (
        f"identity: the request is for {'b' * 32}, and this is {'a' * 32}: the model has been replaced"
    )
