"""What a gateway takes, before any server is asked."""

import asyncio
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from starlette.requests import Request

from client_sdk import InvalidArgument, InvalidType
from client_sdk._call.collect import LateItems
from client_sdk._call.questions import ModelInfo
from client_sdk._call.sparse import SparseRows
from client_sdk.gateway import GatewaySettings
from client_sdk.gateway.failures import CallerGone, Failure
from client_sdk.gateway.limits import MAX_TOKENS, FewNumbers, FewWords, Limits, while_awaited
from tests.support.asgi import open_app, request


def endless(chunk: bytes, pause: float = 0.0):
    """A body that goes on for ever; `taken` counts what was read of it."""

    async def chunks():
        while True:
            await asyncio.sleep(pause)
            chunks.taken += len(chunk)
            yield chunk

    chunks.taken = 0
    return chunks


async def test_a_body_that_never_ends_is_refused_after_little_of_it():
    async with open_app(max_body_bytes=1000) as app:
        body = endless(b"x" * 100)
        answer = await request(app, "POST", "/v1/embeddings", body)
    assert answer.status == 413 and answer.headers["connection"] == "close"
    assert answer.json["error"]["message"] == "the body may have 1000 bytes at most"
    assert 1000 < body.taken < 10_000


async def test_a_body_that_does_not_come_is_not_waited_for():
    async with open_app(body_timeout=0.05) as app:
        answer = await request(app, "POST", "/v1/embeddings", endless(b"", pause=0.01))
    assert answer.status == 408 and "within 0.05 s" in answer.json["error"]["message"]


async def test_a_body_of_just_the_limit_is_read():
    async with open_app(max_body_bytes=1000) as app:
        answer = await request(app, "POST", "/v1/embeddings", b"[" + b" " * 998 + b"]")
    assert answer.status == 400 and answer.json["error"]["message"] == "the body must be a JSON object"


async def test_bodies_are_counted_together_until_they_are_answered():
    async with open_app(max_body_bytes=1000) as app:
        held, go = asyncio.Semaphore(0), asyncio.Event()

        def body():
            async def chunks():
                yield b" " * 999
                held.release()
                await go.wait()

            return chunks()

        waiting = [asyncio.ensure_future(request(app, "POST", "/v1/embeddings", body)) for _ in range(16)]
        for _ in waiting:
            await held.acquire()
        busy = await request(app, "POST", "/v1/embeddings", b" " * 999)
        small = await request(app, "POST", "/v1/embeddings", b"{}")
        go.set()
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {400}
        after = await request(app, "POST", "/v1/embeddings", b" " * 999)
    assert busy.status == 429 and "have 15984 bytes" in busy.json["error"]["message"]
    assert (small.status, after.status) == (400, 400)


def caller(hangs_up: bool):
    """A request whose body has been read."""

    async def receive():
        if not hangs_up:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http"}, receive)


async def forever(ended):
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        ended.set()
        raise


async def test_work_ends_when_its_caller_hangs_up_and_what_comes_after_it_is_awaited_as_ever():
    ended = asyncio.Event()
    with pytest.raises(CallerGone):
        await while_awaited(caller(hangs_up=True), forever(ended))
    assert ended.is_set()
    await asyncio.sleep(0)


async def test_work_that_fails_while_its_caller_hangs_up_has_no_caller_to_be_told():
    async def work():
        try:
            await forever(asyncio.Event())
        except asyncio.CancelledError:
            raise ZeroDivisionError from None

    with pytest.raises(CallerGone):
        await while_awaited(caller(hangs_up=True), work())


async def test_of_short_work_the_caller_is_not_looked_for():
    asked = []

    async def receive():
        asked.append(True)

    assert await while_awaited(Request({"type": "http"}, receive), asyncio.sleep(0, "done")) == "done"
    assert not asked


async def test_the_callers_absence_is_not_what_ends_work_that_others_cancel():
    ended = asyncio.Event()
    task = asyncio.ensure_future(while_awaited(caller(hangs_up=False), forever(ended)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("prompts", [{}, {"query": "find "}])
def test_vectors_of_tokens_are_counted_before_they_are_asked_for(prompts):
    info = cast(ModelInfo, SimpleNamespace(max_seq_len=512, dimension=512, prompts=prompts))
    limits = Limits(GatewaySettings())
    limits.check_numbers(["a" * 1000] * 64, info, "inputs")
    limits.check_numbers(["a"] * 1260, info, "inputs")
    with pytest.raises(Failure, match="inputs may have 33280 tokens, whose vectors are 17039360 numbers") as found:
        limits.check_numbers(["a" * 1000] * 65, info, "inputs")
    assert found.value.reason == "large"


def test_tokens_are_counted_before_they_are_asked_for():
    info = cast(ModelInfo, SimpleNamespace(max_seq_len=512, prompts={}))
    limits = Limits(GatewaySettings())
    limits.check_tokens(["a" * 1000] * 2048, info, "inputs")
    with pytest.raises(Failure, match="inputs may have 1049088 tokens; an answer may have 1048576: send fewer texts"):
        limits.check_tokens(["a" * 1000] * 2049, info, "inputs")


def test_words_of_sparse_vectors_are_counted_as_they_come():
    words = FewWords(SparseRows(30_000), "inputs")
    reply = {"INDICES": np.tile(np.arange(30_000), (32, 1)), "WEIGHTS": np.ones((32, 30_000), np.float32)}
    for start in range(0, 128, 32):
        words.take(range(start, start + 32), reply)
    assert words.result().lengths.tolist() == [30_000] * 128
    with pytest.raises(Failure, match="the vectors of inputs have more than 4194304 words") as found:
        words.take(range(128, 160), reply)
    assert (found.value.reason, found.value.param) == ("large", "inputs")


def test_numbers_of_late_interaction_are_counted_as_they_come():
    numbers = FewNumbers(LateItems(128), "input")
    mask = np.ones((64, 512), np.int32)
    mask[:, 256:] = 0  # which are padding
    reply = {"TOKEN_EMBEDDING": np.ones((64, 512, 128), np.float32), "ATTENTION_MASK": mask}
    for start in range(0, 512, 64):
        numbers.take(range(start, start + 64), reply)
    assert [len(one) for one in numbers.result()] == [256] * 512
    with pytest.raises(Failure, match="the vectors of input have more than 16777216 numbers") as found:
        numbers.take(range(512, 576), reply)
    assert (found.value.reason, found.value.param) == ("large", "input")


def test_texts_are_counted():
    limits = Limits(GatewaySettings(max_texts=3))
    limits.check_texts(["text"] * 3, "input")
    with pytest.raises(Failure, match="input has 4 texts; a request may have 3") as found:
        limits.check_texts(["text"] * 4, "input")
    assert (found.value.reason, found.value.param) == ("large", "input")
    with pytest.raises(Failure, match="input is empty"):
        limits.check_texts([], "input")


@pytest.mark.parametrize("texts", [[1] * (MAX_TOKENS + 1), [[1] * (MAX_TOKENS // 2), [1] * (MAX_TOKENS // 2 + 1)]])
def test_token_ids_of_a_request_are_counted(texts):
    limits = Limits(GatewaySettings())
    with pytest.raises(Failure, match=f"input has {MAX_TOKENS + 1} tokens; a request may have {MAX_TOKENS}") as caught:
        limits.check_lists({"model": "bert", "input": texts})
    assert (caught.value.reason, caught.value.param) == ("large", "input")
    limits.check_lists({"input": texts[1:], "texts": [], "top_n": 1})


def test_a_place_is_free_again_when_its_request_has_ended():
    limits = Limits(GatewaySettings(max_concurrency=1))
    with limits.place(), pytest.raises(Failure, match="1 requests are being answered"), limits.place():
        pass
    with pytest.raises(ZeroDivisionError), limits.place():
        raise ZeroDivisionError
    with limits.place():
        pass


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"max_texts": 0}, InvalidArgument, "max_texts must be at least 1"),
        ({"max_concurrency": "many"}, InvalidType, "max_concurrency must be an int"),
        ({"timeout": -1}, InvalidArgument, "timeout must be a positive"),
        ({"body_timeout": None}, InvalidType, "body_timeout must be a number"),
        ({"triton": "ftp://server"}, InvalidArgument, "ftp"),
        ({"root_certificates": "ca.pem"}, InvalidArgument, "only for grpcs://"),
    ],
)
def test_settings_are_checked_when_they_are_made(settings, error, message):
    with pytest.raises(error, match=message):
        GatewaySettings(**settings)


def test_no_setting_shows_a_key():
    assert "secret" not in repr(GatewaySettings(api_key="secret", headers={"x": "secret"}))
