import pytest

from client_sdk.bert_as_service import BertClient
from client_sdk.bert_as_service._arguments import checked_max_seq_len, read_texts, server_url, split_pair


@pytest.fixture
def client():
    """Of no server: what it raises, it raises before it sends anything."""
    with BertClient(port=1, ignore_all_checks=True) as client:
        yield client


@pytest.mark.parametrize(
    ("texts", "is_tokenized", "error", "message"),
    [
        ([], False, ValueError, '"texts" must be a non-empty list'),
        ("a text", False, TypeError, '"texts" must be a list, but received str'),
        (("a", "b"), False, TypeError, "received tuple"),
        (None, False, TypeError, "received NoneType"),
        (iter(["a"]), False, TypeError, "must be a list"),
        (["a", 1], False, TypeError, 'all elements of "texts" must be str, but element 1 is int'),
        (["a", None], False, TypeError, "element 1 is NoneType"),
        ([["a"]], False, TypeError, "element 0 is list"),
        (["a", ""], False, ValueError, "non-empty strings, but element 1 is ''"),
        (["a", " \t\n"], False, ValueError, "element 1 is ' \\t\\n'"),
        ([], True, ValueError, '"texts" must be a non-empty list'),
        (["a"], True, TypeError, r'"texts[0]" must be a list, but received str'),
        ([["a"], []], True, ValueError, r'"texts[1]" must be a non-empty list'),
        ([["a"], ["b", 2]], True, TypeError, r'all elements of "texts[1]" must be str, but element 1 is int'),
        ([["a", " "]], True, ValueError, r'"texts[0]" must be non-empty strings, but element 1'),
    ],
)
def test_bad_texts_raise_what_they_raised_in_bert_as_service(client, texts, is_tokenized, error, message):
    for call in (read_texts, lambda texts, is_tokenized: client.encode(texts, True, is_tokenized)):
        with pytest.raises(error) as caught:
            call(texts, is_tokenized)
        assert type(caught.value) is error and message in str(caught.value)
    with pytest.raises(error):
        client.encode(texts, blocking=False, is_tokenized=is_tokenized)
    assert client.fetch_all() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one ||| other", ("one", "other")),
        ("  one ||| other \n", ("one", "other")),
        ("a ||| b ||| c", ("a ||| b", "c")),
        ("one|||other", "one|||other"),
        ("nothing after |||", "nothing after |||"),
        ("nothing after ||| ", "nothing after ||| "),
        ("||| nothing before", "||| nothing before"),
        ("a line\nbreak ||| before", "a line\nbreak ||| before"),
        ("before ||| a line\nbreak", "before ||| a line\nbreak"),
    ],
)
def test_a_pair_is_split_at_its_last_separator(text, expected):
    assert split_pair(text) == expected


def test_the_address_is_host_and_grpc_port():
    assert server_url("localhost", None) is None
    assert server_url("localhost", 5555) == "grpc://localhost:5555"
    assert server_url("10.0.0.1", None) == "grpc://10.0.0.1:8001"
    assert server_url("::1", 9000) == "grpc://[::1]:9000"


def test_max_seq_len_is_a_number_from_4_or_none():
    assert [checked_max_seq_len(value) for value in (None, "NONE", "none", 4, 512)] == [None, None, None, 4, 512]
    with pytest.raises(ValueError, match="at least 4, or None, not 3"):
        checked_max_seq_len(3)
    with pytest.raises(TypeError):
        checked_max_seq_len("25")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"output_fmt": "json"}, AttributeError, '"ndarray" or "list"'),
        ({"pooling_strategy": "mean"}, ValueError, "'mean' is not known; allowed: NONE, REDUCE_MAX"),
        ({"timeout": 0}, ValueError, "timeout must be -1 or a positive number of milliseconds, not 0"),
        ({"timeout": None}, TypeError, "timeout must be a number of milliseconds"),
        ({"mask_cls_sep": 1}, TypeError, "mask_cls_sep must be bool"),
        ({"no_special_token": "yes", "mask_cls_sep": "yes"}, TypeError, "must be bool"),
        ({"ip": None}, TypeError, "ip must be a str"),
        ({"ip": "host:8001"}, ValueError, "ip must be the name or address of a host alone, and is 'host:8001'"),
        ({"ip": "grpc://host", "port": 8001}, ValueError, "a host alone, and is 'grpc://host': give the port as port"),
        ({"port": "5555"}, TypeError, "port must be an int"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(options, error, message):
    with pytest.raises(error, match=message):
        BertClient(**options)
