"""Who may ask, before any server is asked; and what is counted of it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from client_sdk import InvalidArgument
from client_sdk.gateway import GatewaySettings, create_app
from tests.support.asgi import open_app, request

KEY = "a-long-random-key"
OTHER = "ключ"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Two keys."""
    path = tmp_path / "keys"
    path.write_text(
        "".join(f"key-{at} {hashlib.sha256(key.encode()).hexdigest()}\n" for at, key in enumerate((KEY, OTHER)))
    )
    return path


@pytest.mark.parametrize("shown", [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer \xff"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/embeddings"), ("GET", "/v1/models")])
async def test_without_a_known_key_nothing_is_answered(keys, method, path, shown):
    headers = {} if shown is None else {"authorization": shown}
    async with open_app(keys=keys) as app:
        answer = await request(app, method, path, b'{"input": "text"}', headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json["error"]["code"] == "invalid_api_key"
    assert KEY not in answer.body.decode()


@pytest.mark.parametrize(("scheme", "key"), [("Bearer", KEY), ("bearer", KEY), ("Bearer", OTHER)])
async def test_with_a_key_the_server_is_asked(keys, scheme, key):
    sent = f"{scheme} {key}".encode().decode("latin-1")  # the bytes of a header, as `request` takes them
    async with open_app(keys=keys, timeout=1) as app:
        answer = await request(app, "GET", "/v1/models", headers={"authorization": sent})
    assert answer.status == 503  # there is none


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/", "/page/page.js", "/page/page.css"])
async def test_health_metrics_and_the_page_need_no_key(keys, path):
    async with open_app(keys=keys) as app:
        assert (await request(app, "GET", path)).status == 200


def test_a_file_that_is_no_list_of_keys_ends_the_start(tmp_path):
    (tmp_path / "keys").write_text("search\n")
    with pytest.raises(InvalidArgument, match="line 1 of the key file"):
        create_app(GatewaySettings(keys=tmp_path / "keys"))


async def test_pages_of_other_sites_may_ask_where_they_are_named_alone():
    origin = {"origin": "https://search.example.com", "access-control-request-method": "POST"}
    for cors, allowed in (((), None), (("https://search.example.com",), origin["origin"]), (("https://b",), None)):
        async with open_app(cors=cors) as app:
            answer = await request(app, "OPTIONS", "/v1/embeddings", b"", origin)
            other = await request(app, "GET", "/health/live", b"", origin)
        assert answer.headers.get("access-control-allow-origin") == allowed
        assert other.headers.get("access-control-allow-origin") == allowed
        assert other.headers.get("access-control-expose-headers") == ("Retry-After" if cors else None)


@pytest.mark.parametrize("origin", ["*", "http://localhost:3000", "https://[::1]:8443", "chrome-extension://abc"])
def test_an_origin_is_as_a_browser_sends_it(origin):
    assert GatewaySettings(cors=[origin]).cors == [origin]


@pytest.mark.parametrize(
    "origin", ["https://a.example/", "https://a.example/app", "a.example", "https://A.example", "https://", ""]
)
def test_an_origin_that_no_browser_sends_is_refused(origin):
    with pytest.raises(InvalidArgument, match=f"cors '{origin}' is no origin: give scheme://host"):
        GatewaySettings(cors=[origin])


def test_origins_are_no_string_of_which_a_part_is_one_too():
    with pytest.raises(InvalidArgument, match="cors must be a list of origins, not 'https://a.example'"):
        GatewaySettings(cors="https://a.example")


async def test_requests_are_counted_by_the_routes_that_there_are():
    async with open_app() as app:
        for path in ("/v1/models/one", "/v1/models/another", "/no/such/path", "/nor/this"):
            await request(app, "GET", path)
        text = (await request(app, "GET", "/metrics")).body.decode()
    counted = dict(re.findall(r'bert_gateway_requests_total\{key="",model="",route="(.*)",status="\d+"\} (\S+)', text))
    assert counted == {"/v1/models/{model:path}": "2.0", "": "2.0"}
    assert "bert_gateway_requests_in_flight 1.0\n" in text  # this one


async def test_the_page_is_of_its_own_files_alone():
    async with open_app() as app:
        page = await request(app, "GET", "/")
        assert (await request(app, "GET", "/page/other.js")).status == 404
        parts = re.findall(r'(?:href|src)="(page/[^"]+)"', page.body.decode())
        assert len(parts) == 2
        for part in parts:
            assert (await request(app, "GET", f"/{part}")).status == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "//" not in re.sub(r"<!doctype.*|bert-on-triton", "", page.body.decode())
