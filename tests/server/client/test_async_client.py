"""Every call of the asynchronous client, over both protocols, against the real model."""

import asyncio
import gc
import time
import warnings

import numpy as np
import pytest

from client_sdk import AsyncClient, Client, ClientError, LocalServer, ModelNotFound, ServerUnreachable
from tests.support.patience import PATIENCE


@pytest.fixture(params=["grpc", "http"])
def url(request, server: LocalServer) -> str:
    return server.grpc_url if request.param == "grpc" else server.http_url


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


async def test_every_call_gives_what_the_blocking_client_gives(url, texts):
    mixed = [*texts[:40], ("one", "two")]
    with Client(url) as blocking:
        async with AsyncClient(url) as client:
            same(await client.encode("First do it"), blocking.encode("First do it"))
            same(await client.encode(mixed, batch_size=16), blocking.encode(mixed))
            same(await client.encode((text for text in mixed), pooling="cls"), blocking.encode(mixed, pooling="cls"))
            same(await client.encode_query("First do it"), blocking.encode_query("First do it"))
            assert (await client.encode(mixed, precision="binary")).shape == (len(mixed), 48)
            same(await client.encode_document(mixed), blocking.encode_document(mixed))
            same(np.concatenate([block async for block in client.encode_iter(iter(mixed))]), blocking.encode(mixed))
            assert (await client.count_tokens(mixed)).tolist() == blocking.count_tokens(mixed).tolist()
            assert await client.count_tokens("First do it") == 5
            for found, expected in zip(await client.encode_tokens(mixed), blocking.encode_tokens(mixed), strict=True):
                assert found.tokens == expected.tokens
                same(found.vectors, expected.vectors)
            assert await client.info() == blocking.info()
            assert await client.is_ready()


async def test_texts_come_as_tokens_as_they_do_to_the_blocking_client(url):
    tokens = [["first", "do", "it"], ["then", "do", "|||", "it", "right"]]
    options = {"is_tokenized": True, "add_special_tokens": False}
    masked = {**options, "mask_cls_sep": True, "pair_truncation": "longest_first", "max_seq_len": 6}
    with Client(url) as blocking:
        async with AsyncClient(url) as client:
            same(await client.encode(tokens, **masked), blocking.encode(tokens, **masked))
            assert (await client.count_tokens(tokens, **options)).tolist() == [3, 7]
            found = await client.encode_tokens(tokens, **masked)
            assert [item.tokens for item in found] == [item.tokens for item in blocking.encode_tokens(tokens, **masked)]


async def test_tasks_share_a_client(url, texts):
    async with AsyncClient(url) as client:
        expected = await client.encode(texts[:64])
        same(np.stack(await asyncio.gather(*(client.encode(text) for text in texts[:64]))), expected)


async def test_the_event_loop_goes_on_during_a_bulk_call(url, texts):
    async with AsyncClient(url) as client:
        call = asyncio.create_task(client.encode(texts))
        ticks = 0
        while not call.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert (await call).shape == (len(texts), 384) and ticks > 10


async def test_a_cancelled_call_ends_at_once_and_the_client_goes_on(url, texts):
    async with AsyncClient(url) as client:
        call = asyncio.create_task(client.encode(texts * 100))
        await asyncio.sleep(0.3)
        assert not call.done()
        call.cancel()
        done, _ = await asyncio.wait({call}, timeout=PATIENCE)
        assert done and call.cancelled()
        assert (await client.encode("First do it")).shape == (384,)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_unknown_model_is_named_with_those_that_are_there(url):
    async with AsyncClient(url, "nope") as client:
        for call in (client.encode("a"), client.encode(["a", "b"]), client.count_tokens(["a"]), client.info()):
            with pytest.raises(ModelNotFound, match="no model 'nope' at .*; there: bert, layers, small"):
                await call
        assert not await client.is_ready()


async def test_a_dead_address_fails_at_once(url):
    async with AsyncClient(f"{url.split(':')[0]}://127.0.0.1:1", timeout=10 * PATIENCE) as client:
        started = time.monotonic()
        with pytest.raises(ServerUnreachable, match="cannot reach .*://127.0.0.1:1: is the server running"):
            await client.encode(["First do it"] * 100)
        assert time.monotonic() - started < PATIENCE
        assert not await client.is_ready()


async def test_a_closed_client_says_so(url):
    client = AsyncClient(url)
    await client.encode("First do it")
    await client.close()
    with pytest.raises(ClientError, match=r"AsyncClient\(.*\) is closed"):
        await client.encode("First do it")


def test_a_client_belongs_to_its_event_loop(url):
    client = AsyncClient(url)

    async def first():
        await client.encode("First do it")

    async def second():
        with pytest.raises(ClientError, match="belongs to another event loop"):
            await client.encode("First do it")

    async def both():
        await first()
        await asyncio.to_thread(asyncio.run, second())
        await client.close()

    asyncio.run(both())


@pytest.mark.parametrize("servers", [1, 2])
def test_a_client_that_outlives_its_event_loop_is_dropped_in_silence(url, servers, caplog, capfd):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        client = AsyncClient([url, url.replace("127.0.0.1", "localhost")][:servers])
        assert asyncio.run(client.encode(["one", "two"])).shape[0] == 2
        del client
        gc.collect()
    assert [str(warning.message) for warning in seen] == [] and caplog.records == []
    assert capfd.readouterr().err == ""
