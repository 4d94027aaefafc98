import pytest

from client_sdk import AsyncClient, Client, InvalidArgument, InvalidType
from client_sdk._transport.address import parse_address
from client_sdk._transport.grpc.transport import _channel_options


@pytest.fixture(params=[Client, AsyncClient])
def make(request):
    return request.param


def test_making_a_client_does_not_connect(make):
    assert repr(make("localhost:1", "minilm")) == f"{make.__name__}('grpc://localhost:1', model='minilm')"


def test_url_and_model_come_from_the_environment(make, monkeypatch):
    monkeypatch.setenv("CLIENT_SDK_URL", "http://gpu-7:80")
    monkeypatch.setenv("CLIENT_SDK_MODEL", "minilm")
    assert repr(make()) == f"{make.__name__}('http://gpu-7:80', model='minilm')"
    assert "grpc://other:8001" in repr(make("other"))
    assert "model='bge'" in repr(make(model="bge"))


def test_without_them_it_is_bert_on_this_machine(make, monkeypatch):
    monkeypatch.delenv("CLIENT_SDK_URL", raising=False)
    monkeypatch.delenv("CLIENT_SDK_MODEL", raising=False)
    assert repr(make()) == f"{make.__name__}('grpc://localhost:8001', model='bert')"


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_client_cannot_wait_for_ever(make, timeout):
    with pytest.raises(InvalidArgument, match="timeout must be a positive, finite number of seconds"):
        make(timeout=timeout)


@pytest.mark.parametrize("timeout", ["60", True, [60]])
def test_a_timeout_is_a_number(make, timeout):
    with pytest.raises(InvalidType, match="timeout must be a number of seconds"):
        make(timeout=timeout)


def test_a_model_has_a_name(make):
    with pytest.raises(InvalidType, match="model must be a str, not int"):
        make(model=5)
    with pytest.raises(InvalidArgument, match="model is empty"):
        make(model="")


def test_headers_are_printable_str(make):
    with pytest.raises(InvalidType, match="'key' is mapped to 5"):
        make(headers={"key": 5})
    with pytest.raises(InvalidArgument, match="header 'key'"):
        make(headers={"key": "one\r\ntwo: 2"})
    with pytest.raises(InvalidType, match="headers must be a mapping of str to str, not list"):
        make(headers=[("key", "value")])


@pytest.mark.parametrize(
    ("scheme", "name", "value", "reason"),
    [
        ("grpc", "two words", "x", "letters, digits"),
        ("grpc", "x!", "x", "letters, digits"),
        ("grpc", ":path", "x", "letters, digits"),
        ("grpc", "trace-bin", "x", "stands for bytes"),
        ("grpc", "grpc-timeout", "1S", "the protocol sets it itself"),
        ("grpc", "TE", "trailers", "the protocol sets it itself"),
        ("grpc", "key", "tab\tstop", "printable ASCII"),
        ("http", "two words", "x", "letters, digits"),
        ("http", "a:b", "x", "letters, digits"),
        ("http", "", "x", "letters, digits"),
        ("http", "Transfer-Encoding", "chunked", "the protocol sets it itself"),
        ("http", "Content-Length", "1", "the protocol sets it itself"),
        ("http", "Inference-Header-Content-Length", "1", "the protocol sets it itself"),
        ("http", "key", "schlüssel", "printable ASCII"),
    ],
)
def test_a_header_that_the_protocol_cannot_carry_is_refused_when_the_client_is_made(make, scheme, name, value, reason):
    with pytest.raises(InvalidArgument, match=f"header '{name}': .*{reason}"):
        make(f"{scheme}://host", headers={name: value})


def test_a_header_is_given_once(make):
    with pytest.raises(InvalidArgument, match="header 'KEY' is given twice"):
        make(headers={"key": "1", "KEY": "2"})


@pytest.mark.parametrize(("scheme", "name"), [("grpc", "X-Tenant_1.a"), ("http", "X!Tenant"), ("http", "Host")])
def test_any_other_header_is_taken(make, scheme, name):
    make(f"{scheme}://host", headers={name: "a value, with spaces", "empty": ""})


def test_tls_files_need_a_tls_url(make, tmp_path):
    with pytest.raises(InvalidArgument, match="root_certificates: only for grpcs:// and https://"):
        make("grpc://host", root_certificates=tmp_path / "ca.pem")


def test_a_certificate_needs_its_key(make, tmp_path):
    (tmp_path / "client.pem").touch()
    with pytest.raises(InvalidArgument, match="give both or neither"):
        make("grpcs://host", client_certificate=tmp_path / "client.pem")


def test_a_missing_tls_file_is_named(make, tmp_path):
    with pytest.raises(InvalidArgument, match="root_certificates: there is no file .*ca.pem"):
        make("https://host", root_certificates=tmp_path / "ca.pem")


@pytest.mark.parametrize("option", ["root_certificates", "client_key"])
def test_what_a_tls_file_holds_is_not_taken_for_its_path_nor_shown(make, tmp_path, option):
    held = f"-----BEGIN CERTIFICATE-----\n{'kept' * 16}\n"
    with pytest.raises(InvalidArgument, match=f"{option} must be the path of a PEM file, and is what") as raised:
        make("grpcs://host", **{option: held})
    assert "kept" not in str(raised.value)
    with pytest.raises(InvalidType, match=f"{option} must be the path of a PEM file, not bytes"):
        make("grpcs://host", **{option: held.encode()})


def test_several_addresses_are_shown(make, monkeypatch):
    assert repr(make(["one", "two:1"])) == f"{make.__name__}('grpc://one:8001,grpc://two:1', model='bert')"
    monkeypatch.setenv("CLIENT_SDK_URL", "http://one,http://two")
    assert "('http://one:8000,http://two:8000'" in repr(make())


@pytest.mark.parametrize("key", ["", "two words", "schlüssel", "line\n"])
def test_an_api_key_is_one_word_and_is_not_shown(make, key):
    with pytest.raises(InvalidArgument, match="the api_key .* one word of printable ASCII") as raised:
        make(api_key=key)
    assert not key or key.strip() not in str(raised.value)


def test_an_api_key_is_a_str(make):
    with pytest.raises(InvalidType, match="api_key must be a str, not int"):
        make(api_key=4711)


def test_secrets_are_in_no_repr(make):
    client = make("one,two", api_key="kept-secret", headers={"other": "hidden"})
    for shown in (repr(client), repr(client._session.settings)):
        assert "secret" not in shown and "hidden" not in shown


@pytest.mark.parametrize(
    ("url", "header"), [("host", "Triton-Grpc-Protocol-Authorization"), ("http://host", "Authorization")]
)
def test_an_api_key_and_a_header_of_the_same_name_exclude_each_other(make, url, header):
    with pytest.raises(InvalidArgument, match=f"headers and api_key both give the header '{header.lower()}'"):
        make(url, api_key="key", headers={header: "Bearer other"})


@pytest.mark.parametrize(
    ("url", "in_turn"),
    [
        ("triton.namespace.svc", True),
        ("grpcs://gpu-7", True),
        ("localhost", False),
        ("10.0.0.1", False),
        ("[::1]", False),
    ],
)
def test_the_addresses_that_a_name_stands_for_are_used_in_turn(url, in_turn):
    assert (("grpc.lb_policy_name", "round_robin") in _channel_options(parse_address(url))) is in_turn
