"""What a connection may take before its request is known."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn

from client_sdk._commands.gateway import listening
from client_sdk._server.listen import Host
from client_sdk.gateway import connections
from client_sdk.gateway.connections import MAX_HEAD_BYTES, BoundedHttp
from tests.support.patience import PATIENCE

REQUEST = b"POST /%s HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello"
left = threading.Event()
"""A caller at /left has gone."""
CHUNKED = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it is sent: at once, without reading it, at /early; after half a second at /slow."""
    body = b""
    if scope["path"] == "/early":
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    if scope["path"] == "/left":
        assert (await receive())["type"] == "http.disconnect"
        left.set()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """To a server that speaks so."""
    config = uvicorn.Config(app, http=BoundedHttp, lifespan="off", log_config=None, ws="none", timeout_keep_alive=1)
    server = uvicorn.Server(config)
    with listening(Host.resolve("127.0.0.1"), 0) as listener:
        serving = asyncio.ensure_future(server._serve([listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            server.should_exit = True
            await serving


async def everything(reader: asyncio.StreamReader) -> bytes:
    """Until the connection is closed."""
    return await asyncio.wait_for(reader.read(), PATIENCE)


@pytest.mark.parametrize("begin", [b"GET /", b"GET / HTTP/1.1\r\nX: "])
async def test_a_line_that_does_not_end_is_not_gathered(begin):
    async with connected() as (reader, writer):
        writer.write(begin.ljust(MAX_HEAD_BYTES + 1, b"a"))
        answer = await everything(reader)
    assert answer.startswith(b"HTTP/1.1 400") and str(MAX_HEAD_BYTES).encode() in answer


async def test_nor_is_one_within_a_body(monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", PATIENCE)
    async with connected() as (reader, writer):
        writer.write(CHUNKED + b"1;".ljust(16 * MAX_HEAD_BYTES, b"a"))
        with suppress(ConnectionResetError):  # of what was not read
            assert await everything(reader) == b""


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", b"\r\n\r\n", REQUEST % b"" + b"GET /"])
async def test_a_head_that_does_not_come_is_not_waited_for(monkeypatch, sent):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    async with connected() as (reader, writer):
        writer.write(sent)
        answer = await everything(reader)
    assert answer.endswith(b"hello") if sent.endswith(b"GET /") else answer == b""


async def test_a_request_that_is_being_answered_is_not_ended_by_what_comes_behind_it(monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    async with connected() as (reader, writer):
        writer.write(REQUEST % b"slow")
        await asyncio.sleep(0.1)
        writer.write(b"GET /")
        assert (await everything(reader)).endswith(b"hello")


@pytest.mark.parametrize("rest", [b"lo", b"l"])
async def test_a_body_that_comes_after_its_answer_is_not_waited_for_without_end(monkeypatch, rest):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    async with connected() as (reader, writer):
        writer.write((REQUEST % b"early").removesuffix(b"lo"))
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)).startswith(b"HTTP/1.1 401")
        writer.write(rest)
        assert await everything(reader) == b""


async def test_a_connection_whose_body_came_after_its_answer_takes_another_request():
    async with connected() as (reader, writer):
        for _ in range(3):
            writer.write((REQUEST % b"early").removesuffix(b"lo"))
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            writer.write(b"lo" + REQUEST % b"")
            assert (await asyncio.wait_for(reader.readuntil(b"hello"), PATIENCE)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("behind", [b"", REQUEST % b"", REQUEST % b"" + REQUEST % b"left"])
async def test_a_caller_that_hangs_up_is_missed_whatever_came_behind_its_request(behind):
    left.clear()
    async with connected() as (_, writer):
        writer.write(REQUEST % b"left" + behind)
        await asyncio.sleep(0.1)
        writer.close()
        assert await asyncio.to_thread(left.wait, PATIENCE)


async def test_who_offers_to_speak_otherwise_is_answered_and_not_logged(caplog):
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n\r\n"
    head, end, body = (REQUEST % b"").partition(b"\r\n\r\n")
    assert end
    async with connected() as (reader, writer):
        for pieces in ([head + b"\r\n" + offer + body], [head + b"\r\n" + offer, body]):
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.05)
            assert (await asyncio.wait_for(reader.readuntil(b"hello"), PATIENCE)).startswith(b"HTTP/1.1 200")
    assert not caplog.records


async def test_a_body_and_many_requests_of_a_connection_are_no_head(monkeypatch):
    monkeypatch.setattr(connections, "MAX_HEAD_BYTES", 200)
    async with connected() as (reader, writer):
        for _ in range(10):
            writer.write(REQUEST % (b"a" * 100))
            assert (await asyncio.wait_for(reader.readuntil(b"hello"), PATIENCE)).startswith(b"HTTP/1.1 200")
        writer.write(CHUNKED)
        for _ in range(100):
            writer.write(b"3\r\nabc\r\n")
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"abc" * 100), PATIENCE)).startswith(b"HTTP/1.1 200")


def test_a_caller_that_takes_nothing_of_its_answer_is_left():
    with listening(Host.resolve("127.0.0.1"), 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
