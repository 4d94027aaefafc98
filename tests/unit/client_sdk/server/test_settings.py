from pathlib import Path

import pytest

from client_sdk._errors import InvalidArgument
from client_sdk._server.listen import Host, Ports
from client_sdk._server.settings import (
    CLOSED_ENDPOINTS,
    KEYED_ENDPOINTS,
    ServerSettings,
    Tls,
    Trace,
    checked_extra_args,
    checked_server_key,
    make_tls,
    make_trace,
)

KEY = "0123456789abcdef"
PORTS = Ports(http=1, grpc=2, metrics=3)
# What tritonserver knows, see RESTRICTED_CATEGORY_NAMES in its restricted_features.h; health stays open.
ALL_ENDPOINTS = {
    *("metadata", "inference", "shared-memory", "model-config", "model-repository", "statistics", "trace", "logging")
}


def settings(*opened: str, host: str = "127.0.0.1", **options: object) -> ServerSettings:
    closed = [name for name in CLOSED_ENDPOINTS if name not in opened]
    return ServerSettings(Path("/models"), Host.resolve(host), closed, opened, **options)


def restrictions(arguments: list[str]) -> dict[str, str]:
    """Header -> the endpoints behind it, the same for both protocols."""
    found = {}
    for protocol in ("--http-restricted-api=", "--grpc-restricted-protocol="):
        for argument in arguments:
            if argument.startswith(protocol):
                endpoints, _, header = argument.removeprefix(protocol).partition(":")
                assert found.setdefault(header, endpoints) == endpoints
    return found


def test_closed_and_keyed_endpoints_are_all_there_are_but_health():
    assert {*CLOSED_ENDPOINTS, *KEYED_ENDPOINTS} == ALL_ENDPOINTS


def test_without_a_key_only_what_changes_a_server_is_restricted():
    found = restrictions(settings("trace").arguments("name", PORTS))
    assert list(found.values()) == ["model-repository,shared-memory,logging"]
    (header,) = found
    assert header.startswith("closed=") and header.endswith("\n")


def test_with_a_key_what_is_opened_is_opened_to_the_key_alone():
    arguments = settings("trace", api_key=KEY).arguments("name", PORTS)
    found = restrictions(arguments)
    assert found["authorization=Bearer (the-api-key)"].split(",") == [*KEYED_ENDPOINTS, "trace"]
    assert KEY not in "".join(arguments)


def test_no_repr_shows_the_key():
    assert KEY not in repr(settings(api_key=KEY))


def test_encrypted_grpc_leaves_http_on_this_machine():
    tls = Tls(Path("c"), Path("k"), Path("ca"))
    arguments = settings(host="0.0.0.0", tls=tls).arguments("name", PORTS)
    assert {"--http-address=127.0.0.1", "--grpc-address=0.0.0.0", "--grpc-use-ssl=true"} <= set(arguments)
    assert {"--grpc-server-cert=c", "--grpc-server-key=k", "--grpc-root-cert=ca"} <= set(arguments)
    assert "--grpc-use-ssl-mutual=true" in arguments
    assert settings(host="::", tls=tls).http_host == Host.resolve("::1")
    assert settings(host="0.0.0.0").http_host == Host.resolve("0.0.0.0")


def test_traces_go_to_the_collectors_path_for_them():
    assert make_trace("otlp=http://c:4318", 7) == Trace("http://c:4318/v1/traces", 7)
    assert make_trace("otlp=https://c/other", 0) == Trace("https://c/other", 0)
    assert make_trace(None, 1) is None
    arguments = settings(trace=Trace("http://c/v1/traces", 7)).arguments("name", PORTS)
    assert {"--trace-config=mode=opentelemetry", "--trace-config=rate=7"} <= set(arguments)
    assert "--trace-config=opentelemetry,url=http://c/v1/traces" in arguments
    with pytest.raises(InvalidArgument, match="trace_rate is -1"):
        make_trace("otlp=http://c", -1)


def test_tls_files_are_looked_at_before_anything_starts(tmp_path: Path):
    (tmp_path / "cert").touch()
    assert make_tls(None, None, None) is None
    assert make_tls(tmp_path / "cert", tmp_path / "cert", None) == Tls(tmp_path / "cert", tmp_path / "cert")
    with pytest.raises(InvalidArgument, match="tls_key: '.*nothing' cannot be read"):
        make_tls(tmp_path / "cert", tmp_path / "nothing", None)


@pytest.mark.parametrize("key", ["a" * 15, "a b" * 8, "a,b" * 8, "a:b" * 8, "=" * 20, "a\nb" * 8])
def test_a_key_that_no_server_should_rely_on_is_refused_unshown(key: str):
    with pytest.raises(InvalidArgument) as error:
        checked_server_key(key)
    assert key not in str(error.value)
    assert checked_server_key("A-z.0_~+/9abcdefgh==") and checked_server_key(None) is None


@pytest.mark.parametrize(
    ("argument", "instead"),
    [
        ("--http-port=1", "http_port"),
        ("--grpc-use-ssl=true", "tls_certificate"),
        ("--http-restricted-api=x", "api_key"),
    ],
)
def test_arguments_that_have_an_option_of_their_own_are_refused(argument: str, instead: str):
    with pytest.raises(InvalidArgument, match=f"use {instead}"):
        checked_extra_args([argument])
