import pytest

from client_sdk import AsyncClient, Client, InvalidArgument, InvalidType


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


@pytest.mark.parametrize("timeout", [None, "60", True])
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
