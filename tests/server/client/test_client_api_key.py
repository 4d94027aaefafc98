"""Clients of a server that asks for a key."""

import time

import pytest

import client_sdk
from client_sdk import AccessDenied, AsyncClient, Client, LocalServer
from client_sdk._commands.main import main
from tests.support.patience import PATIENCE

KEY = "kept-secret-4711"


@pytest.fixture(scope="module")
def restricted(moody_repository):
    with LocalServer(moody_repository, api_key=KEY) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def url(request, restricted):
    return restricted.grpc_url if request.param == "grpc" else restricted.http_url


async def test_the_right_key_opens_the_server(url):
    with Client(url, api_key=KEY) as client:
        assert client.encode(["text"] * 100).shape == (100, 1)
    async with AsyncClient(url, api_key=KEY) as client:
        assert (await client.encode(["text"] * 100)).shape == (100, 1)


async def test_the_key_may_come_from_the_environment(url, monkeypatch):
    monkeypatch.setenv("CLIENT_SDK_API_KEY", KEY)
    monkeypatch.setenv("CLIENT_SDK_URL", url)
    assert client_sdk.encode("text").shape == (1,)
    async with AsyncClient() as client:
        assert (await client.encode("text")).shape == (1,)
    monkeypatch.setenv("CLIENT_SDK_API_KEY", "another")
    with pytest.raises(AccessDenied):
        client_sdk.encode("text")


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (None, "it expects a key: give api_key=..., or set CLIENT_SDK_API_KEY"),
        ("another", "the api_key that was sent is not the one that it expects"),
    ],
)
async def test_without_the_right_key_it_is_permission_denied_at_once_and_says_so(url, given, advice):
    options = {"api_key": given, "timeout": 10 * PATIENCE}
    for texts in ("text", ["text"] * 100):
        started = time.monotonic()
        with (
            Client(url, **options) as client,
            pytest.raises(PermissionError, match=advice) as raised,
        ):
            client.encode(texts)
        async with AsyncClient(url, **options) as client:
            with pytest.raises(AccessDenied, match=advice):
                await client.encode(texts)
        assert time.monotonic() - started < PATIENCE
        assert KEY not in str(raised.value) and "another" not in str(raised.value)


def test_readiness_needs_no_key(url):
    assert Client(url).is_ready()


def test_commands_take_the_key_from_a_file_or_the_environment(url, tmp_path, monkeypatch, capsys):
    assert main(["health", "--url", url]) == 1
    assert "unhealthy: " in (shown := capsys.readouterr().err) and "it expects a key" in shown
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert main(["health", "--url", url, "--api-key-file", str(tmp_path / "key")]) == 0
    monkeypatch.setenv("CLIENT_SDK_API_KEY", KEY)
    assert main(["health", "--url", url]) == 0
    shown = capsys.readouterr()
    assert KEY not in shown.out + shown.err
