import sys
import threading
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from client_sdk import InvalidArgument, InvalidType
from client_sdk._call.kinds import vectors
from client_sdk._call.options import POOLINGS, request_parameters
from client_sdk._checks import LONGEST_TIMEOUT, positive_int, seconds


def test_only_what_is_given_is_sent():
    assert request_parameters() == {}
    assert request_parameters(normalize=False, truncate=False) == {"normalize": False, "truncate": False}
    everything = {"pooling": "cls", "normalize": True, "truncate_dim": 64, "max_seq_len": 32, "prompt": ""}
    assert request_parameters(**everything) == everything
    assert request_parameters(prompt_name="query") == {"prompt_name": "query"}
    tokenized = {"is_tokenized": True, "add_special_tokens": False, "mask_cls_sep": True}
    assert request_parameters(**tokenized) == tokenized
    assert request_parameters(skip_special_tokens=False) == {"skip_special_tokens": False}
    cut = {"pair_truncation": "bert_as_service", "split_special_tokens": True}
    assert request_parameters(**cut, is_tokenized=False, add_special_tokens=True) == cut


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_is_allowed(pooling):
    assert request_parameters(pooling=pooling) == {"pooling": pooling}


def test_an_unknown_pooling_is_refused_with_those_that_are_allowed():
    with pytest.raises(InvalidArgument, match="pooling 'average' is not known; allowed: mean, max, mean_max, cls"):
        request_parameters(pooling="average")


@pytest.mark.parametrize("name", ["normalize", "split_special_tokens"])
def test_what_is_the_models_to_decide_is_sent_as_it_is_given(name):
    assert request_parameters(**{name: None}) == {}
    for value in (True, False):
        assert request_parameters(**{name: value}) == {name: value}


@pytest.mark.parametrize("name", ["truncate_dim", "max_seq_len"])
def test_a_size_is_a_positive_int(name):
    assert request_parameters(**{name: np.int64(3)}) == {name: 3}
    for value in (0, -1):
        with pytest.raises(InvalidArgument, match=f"{name} must be at least 1, not {value}"):
            request_parameters(**{name: value})
    for value in ("3", 3.0, True):
        with pytest.raises(InvalidType, match=f"{name} must be an int"):
            request_parameters(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("pooling", 1, "str or None"),
        ("normalize", "yes", "bool or None"),
        ("truncate", None, "bool"),
        ("prompt", 1, "str or None"),
        ("prompt_name", 1, "str or None"),
        ("pair_truncation", True, "str or None"),
        ("is_tokenized", None, "bool"),
        ("add_special_tokens", 0, "bool"),
        ("split_special_tokens", "yes", "bool or None"),
        ("mask_cls_sep", 1, "bool"),
        ("priority", 1, "str or None"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused(name, value, allowed):
    with pytest.raises(InvalidType, match=f"^{name} must be {allowed}, not {type(value).__name__}$"):
        request_parameters(**{name: value})


def test_a_prompt_and_its_name_exclude_each_other():
    with pytest.raises(InvalidArgument, match="exclude each other"):
        request_parameters(prompt="query: ", prompt_name="query")


def test_a_prompt_takes_the_place_of_that_for_a_kind_of_texts():
    assert request_parameters(input_type="document") == {"input_type": "document"}
    for prompt in ({"prompt": ""}, {"prompt_name": "query"}):
        _, sent = vectors({"input_type": "document", "batch_size": 3, **prompt})
        assert sent == {"batch_size": 3, **prompt}
        both = {"input_type": "document", **prompt}  # a family for late interaction treats it as one all the same
        assert request_parameters(**both) == both
    with pytest.raises(InvalidArgument, match="input_type 'passage' is not known; allowed: query, document"):
        request_parameters(input_type="passage")


def test_options_that_do_not_go_together_are_refused():
    for prompt in ({"prompt": ""}, {"prompt_name": "query"}):
        with pytest.raises(InvalidArgument, match="is_tokenized goes without a prompt"):
            request_parameters(is_tokenized=True, **prompt)
    with pytest.raises(
        InvalidArgument, match="^encode_query and encode_document put .*: use encode, and put the prompt"
    ):
        request_parameters(is_tokenized=True, input_type="query")
    with pytest.raises(InvalidArgument, match="add_special_tokens=False goes together with is_tokenized=True only"):
        request_parameters(add_special_tokens=False)
    with pytest.raises(InvalidArgument, match="'only_first' is not known; allowed: longest_first, bert_as_service"):
        request_parameters(pair_truncation="only_first")


def test_a_priority_is_sent_if_it_was_chosen():
    assert request_parameters(priority="bulk") == {"bulk": True}
    assert request_parameters(priority="interactive") == {"bulk": False}
    assert request_parameters() == {}
    with pytest.raises(InvalidArgument, match="priority 'high' is not known; allowed: interactive, bulk"):
        request_parameters(priority="high")


def test_a_batch_size_is_a_positive_int():
    assert positive_int("batch_size", 1) == 1
    with pytest.raises(InvalidType):
        positive_int("batch_size", None)


@pytest.mark.parametrize("name", ["prompt", "prompt_name", "pooling", "truncation_side", "pair_truncation", "priority"])
def test_a_string_that_would_not_arrive_as_it_is_is_refused(name):
    with pytest.raises(InvalidArgument, match=f"^{name} has a NUL at character 3, where Triton cuts it"):
        request_parameters(**{name: "cls\0 tail"})
    with pytest.raises(InvalidArgument, match=f"^{name} has the lone surrogate .* at character 0"):
        request_parameters(**{name: "\ud800"})


def test_values_go_as_plain_types():
    class Loud(str):
        def __str__(self):
            return self.upper()

    found = request_parameters(prompt=Loud("query: "), normalize=np.True_, truncate=np.bool_(False))
    assert found == {"prompt": "query: ", "normalize": True, "truncate": False}
    assert [type(value) for value in found.values()] == [bool, bool, str]


@pytest.mark.parametrize("name", ["truncate_dim", "max_seq_len"])
@pytest.mark.parametrize("value", [2**63, -(2**63), 10**400])
def test_an_int_of_more_than_64_bits_is_refused(name, value):
    with pytest.raises(InvalidArgument, match=f"{name} must be between 1 and 9223372036854775807"):
        request_parameters(**{name: value})


@pytest.mark.parametrize("value", [5, 0.25, np.float32(5), np.int64(5), Fraction(1, 2), 1e-300])
def test_a_timeout_is_any_positive_number(value):
    assert seconds("timeout", value) == float(value) and type(seconds("timeout", value)) is float


@pytest.mark.parametrize("value", [sys.maxsize, 1e10, 1e300, 10**400, np.float64(1e200)])
def test_a_timeout_beyond_what_the_libraries_take_is_the_longest(value):
    assert seconds("timeout", value) == LONGEST_TIMEOUT < threading.TIMEOUT_MAX


@pytest.mark.parametrize("value", [0, -1, -0.5, float("inf"), float("nan"), -(10**400)])
def test_a_timeout_that_is_no_time_is_refused(value):
    with pytest.raises(InvalidArgument, match="timeout must be a positive, finite number of seconds, not"):
        seconds("timeout", value)


@pytest.mark.parametrize("value", [True, "5", None, Decimal(5), [5], np.bool_(True)])
def test_a_timeout_of_another_type_is_refused(value):
    with pytest.raises(InvalidType, match="timeout must be a number of seconds"):
        seconds("timeout", value)
