import numpy as np
import pytest

from client_sdk import InvalidArgument, InvalidType
from client_sdk._options import POOLINGS, positive_int, request_parameters


def test_only_what_is_given_is_sent():
    assert request_parameters() == {}
    assert request_parameters(normalize=False, truncate=False) == {"normalize": False, "truncate": False}
    everything = {"pooling": "cls", "normalize": True, "truncate_dim": 64, "max_seq_len": 32, "prompt": ""}
    assert request_parameters(**everything) == everything
    assert request_parameters(prompt_name="query") == {"prompt_name": "query"}
    tokenized = {"is_tokenized": True, "add_special_tokens": False, "mask_cls_sep": True}
    assert request_parameters(**tokenized) == tokenized
    cut = {"pair_truncation": "bert_as_service", "split_special_tokens": True}
    assert request_parameters(**cut, is_tokenized=False, add_special_tokens=True) == cut


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_is_allowed(pooling):
    assert request_parameters(pooling=pooling) == {"pooling": pooling}


def test_an_unknown_pooling_is_refused_with_those_that_are_allowed():
    with pytest.raises(InvalidArgument, match="pooling 'average' is not known; allowed: mean, max, mean_max, cls"):
        request_parameters(pooling="average")


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
        ("split_special_tokens", "yes", "bool"),
        ("mask_cls_sep", 1, "bool"),
        ("priority", None, "str"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused(name, value, allowed):
    with pytest.raises(InvalidType, match=f"^{name} must be {allowed}, not {type(value).__name__}$"):
        request_parameters(**{name: value})


def test_a_prompt_and_its_name_exclude_each_other():
    with pytest.raises(InvalidArgument, match="exclude each other"):
        request_parameters(prompt="query: ", prompt_name="query")


def test_options_that_do_not_go_together_are_refused():
    for prompt in ({"prompt": ""}, {"prompt_name": "query"}):
        with pytest.raises(InvalidArgument, match="is_tokenized goes without a prompt"):
            request_parameters(is_tokenized=True, **prompt)
    with pytest.raises(InvalidArgument, match="add_special_tokens=False goes together with is_tokenized=True only"):
        request_parameters(add_special_tokens=False)
    with pytest.raises(InvalidArgument, match="'only_first' is not known; allowed: longest_first, bert_as_service"):
        request_parameters(pair_truncation="only_first")


def test_a_bulk_call_says_so_and_an_interactive_one_is_the_default():
    assert request_parameters(priority="bulk") == {"bulk": True}
    assert request_parameters(priority="interactive") == {}
    with pytest.raises(InvalidArgument, match="priority 'high' is not known; allowed: interactive, bulk"):
        request_parameters(priority="high")


def test_a_batch_size_is_a_positive_int():
    assert positive_int("batch_size", 1) == 1
    with pytest.raises(InvalidType):
        positive_int("batch_size", None)
