"""What the blocking client raises, over both protocols, against the real model."""

import time

import pytest

from client_sdk import (
    AccessDenied,
    Client,
    ClientError,
    InvalidArgument,
    InvalidType,
    LocalServer,
    ModelNotFound,
    ServerUnreachable,
)
from client_sdk._server import local_server
from tests.support.patience import PATIENCE


@pytest.fixture(params=["grpc", "http"])
def url(request, server: LocalServer) -> str:
    return server.grpc_url if request.param == "grpc" else server.http_url


@pytest.fixture
def client(url):
    with Client(url) as client:
        yield client


@pytest.fixture(params=["encode", "encode_tokens", "count_tokens"])
def call(request, client):
    return getattr(client, request.param)


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ([], InvalidArgument, "texts is empty"),
        (["a", 5], InvalidType, "text 1 is int"),
        (["a", "b", " "], InvalidArgument, "text 2 is blank"),
        ("", InvalidArgument, "the text is empty"),
        (None, InvalidType, "a str or an iterable of str"),
    ],
)
def test_bad_texts_are_refused_by_every_call(call, texts, error, message):
    with pytest.raises(error, match=message):
        call(texts)


def test_bad_options_are_refused_by_every_call(call):
    for options in ({"batch_size": 0}, {"timeout": -1}, {"prompt": "a", "prompt_name": "b"}):
        with pytest.raises(InvalidArgument):
            call(["a"], **options)
    with pytest.raises(InvalidType, match="prompt must be str or None"):
        call(["a"], prompt=5)


def test_nothing_is_sent_for_what_the_client_can_refuse():
    with pytest.raises(InvalidArgument):
        Client("127.0.0.1:1").encode(["a", ""])


def test_a_text_that_the_server_refuses_is_named_by_the_callers_index(client):
    texts = [f"a short text, number {i}" for i in range(200)]
    texts[150] = "hello " * 300
    for refused in (texts, iter(texts)):
        with pytest.raises(InvalidArgument, match="^text 150: 302 tokens, more than max_seq_len 256"):
            client.encode(refused, truncate=False)
    with pytest.raises(InvalidArgument, match="^text 0: 302 tokens"):
        client.encode(texts[150], truncate=False)


def test_options_that_the_server_refuses_are_invalid_arguments(client):
    for options, message in (
        ({"max_seq_len": 1000}, "max_seq_len is 1000; it takes 3 to 256"),
        ({"prompt_name": "query"}, "prompt_name is 'query'; this model's prompts: none"),
        ({"truncate_dim": 1000}, "truncate_dim"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            client.encode("text", **options)


def test_an_unknown_model_is_named_with_those_that_are_there(url):
    with Client(url, "nope") as client:
        for call in (client.encode, client.encode_tokens, client.count_tokens):
            for texts in ("a", ["a", "b"]):
                with pytest.raises(ModelNotFound, match="no model 'nope' at .*; there: bert, layers, small"):
                    call(texts)
        with pytest.raises(ModelNotFound, match="there: bert"):
            client.info()


@pytest.mark.parametrize("part", ["tokens", "pooling"])
def test_a_part_of_a_family_is_told_from_one_of_another_kind(url, part):
    with Client(url, f"bert_{part}") as client:
        for call in (client.encode, client.encode_tokens, client.count_tokens, client.classify, client.encode_multi):
            with pytest.raises(ModelNotFound, match=f"'bert_{part}' at .* is a part of the family 'bert': give that"):
                call("a")
        for call in (client.info, lambda: client.score([("a", "b")]), lambda: client.rerank("a", ["b"])):
            with pytest.raises(ModelNotFound, match="is a part of the family 'bert'"):
                call()


def test_a_dead_address_fails_at_once_with_what_to_check(url):
    scheme = url.split(":")[0]
    with Client(f"{scheme}://127.0.0.1:1", timeout=10 * PATIENCE) as client:
        for call in (client.encode, client.encode_tokens, client.count_tokens):
            started = time.monotonic()
            with pytest.raises(ServerUnreachable, match=f"cannot reach {scheme}://127.0.0.1:1: is the server running"):
                call(["First do it"] * 100)
            assert time.monotonic() - started < PATIENCE
        with pytest.raises(ConnectionError):
            client.info()


@pytest.mark.parametrize("model", ["bert", "nope"])
def test_the_other_protocols_port_is_a_likely_mistake_and_is_mentioned(server, model):
    grpc_at_http = server.http_url.replace("http://", "grpc://")
    http_at_grpc = server.grpc_url.replace("grpc://", "http://")
    for url, message in (
        (grpc_at_http, "is this the gRPC port .* and not the HTTP one"),
        (http_at_grpc, "is this the HTTP port .* and not the gRPC one"),
    ):
        with pytest.raises(ServerUnreachable, match=message):
            Client(url, model).encode("text", timeout=PATIENCE)


def test_an_unknown_host_is_unreachable(url):
    with pytest.raises(ServerUnreachable, match="cannot reach"):
        Client(f"{url.split(':')[0]}://no-such-host.invalid").encode("text", timeout=PATIENCE)


def test_a_closed_client_says_so(url):
    client = Client(url)
    client.encode("text")
    client.close()
    client.close()
    with pytest.raises(ClientError, match=r"Client\(.*\) is closed"):
        client.encode("text")


def test_a_restricted_endpoint_is_access_denied(bert_repository, monkeypatch):
    monkeypatch.setattr(local_server, "CLOSED_ENDPOINTS", ("inference",))
    with LocalServer(bert_repository) as closed:
        for url in (closed.grpc_url, closed.http_url):
            for texts in ("text", ["text"] * 100):
                with pytest.raises(
                    AccessDenied, match="restricted, expecting header 'triton-grpc-protocol-closed'|'closed'"
                ):
                    Client(url).encode(texts)


def test_closed_configurations_do_not_close_inference(bert_repository, monkeypatch):
    monkeypatch.setattr(local_server, "CLOSED_ENDPOINTS", ("model-config", "statistics"))
    with LocalServer(bert_repository) as closed:
        for url in (closed.grpc_url, closed.http_url):
            assert Client(url).encode(["text"] * 100).shape == (100, 384)
            with pytest.raises(AccessDenied):
                Client(url).info()
            with pytest.raises(ModelNotFound, match="nope"):
                Client(url, "nope").encode("text")
