"""Every call of the blocking client, over both protocols, against the real model."""

import itertools
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import client_sdk
from client_sdk import Client, LocalServer, TokenVectors
from client_sdk._call.plan import WINDOW_TEXTS
from export.ranges import TEXTS
from export.sentences import sample
from tests.support.patience import PATIENCE

DIMENSION = 384  # all-MiniLM-L6-v2


@pytest.fixture(params=["grpc", "http"])
def url(request, server: LocalServer) -> str:
    return server.grpc_url if request.param == "grpc" else server.http_url


@pytest.fixture
def client(url):
    with Client(url) as client:
        yield client


def same(found, expected):
    """Equal but for the order of additions, which depends on what runs together."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_str_gives_one_vector_and_a_list_gives_rows(client):
    one = client.encode("First do it")
    many = client.encode(["First do it", "then do it right"])
    assert (one.shape, many.shape) == ((DIMENSION,), (2, DIMENSION))
    assert one.dtype == many.dtype == np.float32 and one.flags.writeable and many.flags.writeable
    same(many[0], one)


def test_vectors_are_in_the_callers_order_whatever_the_lengths(client, texts):
    shuffled = [texts[i] for i in np.random.default_rng(0).permutation(60)]
    same(client.encode(shuffled, batch_size=7), np.stack([client.encode(text) for text in shuffled]))


def test_a_generator_gives_what_its_list_gives(client, texts):
    same(client.encode(text for text in texts[:100]), client.encode(texts[:100]))


def test_a_stream_longer_than_a_window_comes_out_whole(client):
    counts = client.count_tokens("a " * (1 + i % 3) for i in range(WINDOW_TEXTS + 100))
    assert counts.tolist() == [3 + i % 3 for i in range(WINDOW_TEXTS + 100)]


def test_a_stream_without_an_end_gives_blocks_as_they_come(client):
    texts = [f"text {i}" for i in range(70)]
    expected = client.encode(texts)
    endless = client.encode_iter(texts[i % 70] for i in itertools.count())
    block = next(endless)
    same(block, expected[np.arange(len(block)) % 70])
    endless.close()
    (whole,) = client.encode_iter(texts, batch_size=16, precision="float16")
    np.testing.assert_allclose(whole, expected, atol=1e-3)
    with (
        Client(client._session.settings.url, "nope") as other,
        pytest.raises(client_sdk.ModelNotFound, match="there: b"),
    ):
        next(other.encode_iter(["a"]))


def test_a_tuple_at_the_top_is_two_texts_and_within_a_list_it_is_a_pair(client):
    two, pair = client.encode(("one text", "another")), client.encode([("one text", "another")])
    assert (two.shape, pair.shape) == ((2, DIMENSION), (1, DIMENSION))
    same(two, np.stack([client.encode("one text"), client.encode("another")]))
    assert np.abs(pair[0] - two[0]).max() > 0.01


def test_pairs_and_single_texts_mix_in_one_call(client):
    mixed = ["one", ("one", "two"), "three", ("four", "five")] * 20
    same(client.encode(mixed, batch_size=8), np.concatenate([client.encode([text]) for text in mixed]))


def test_a_batch_size_above_the_servers_limit_is_capped(url, texts):
    with Client(url, "small") as client:  # which takes 8
        assert client.encode(texts[:50], batch_size=1000).shape == (50, client.info().dimension)


def test_a_text_may_come_as_its_tokens(client):
    texts = ["First do it", ("then do", "it right")]
    tokens = [["first", "do", "it"], ["then", "do", "|||", "it", "right"]]
    same(client.encode(tokens, is_tokenized=True), client.encode(texts))
    ids = [[*np.array([101, 7592, 102])], (101, 2034, 102)]
    same(client.encode(ids, is_tokenized=True), client.encode(["hello", "first"]))
    with pytest.raises(client_sdk.InvalidArgument, match="text 1: its token ids do not begin with"):
        client.encode([[101, 7592, 102], [7592]], is_tokenized=True)
    assert client.count_tokens(tokens, is_tokenized=True).tolist() == [5, 7]
    assert client.count_tokens(tokens[:1], is_tokenized=True, add_special_tokens=False).tolist() == [3]
    items = client.encode_tokens(tokens * 40, is_tokenized=True, add_special_tokens=False, batch_size=7)
    assert [item.tokens for item in items[:2]] == [tokens[0], ["[CLS]", "then", "do", "[SEP]", "it", "right", "[SEP]"]]
    assert [item.vectors.shape for item in items[:2]] == [(3, DIMENSION), (7, DIMENSION)]
    with pytest.raises(client_sdk.InvalidType, match="text 1: token 1 is int"):
        client.encode([["a"], ["a", 1]], is_tokenized=True)


def test_options_of_the_tokenizer_reach_it(client):
    def tokens(text, **options):
        return client.encode_tokens(text, **options).tokens

    pair = [("one one one", "two two two")]
    odd = [
        client.encode_tokens(pair, max_seq_len=8, pair_truncation=rule)[0].tokens for rule in (None, "bert_as_service")
    ]
    assert [row.count("one") for row in odd] == [2, 3]
    assert tokens("a [MASK]", split_special_tokens=True)[2:-1] == ["[", "mask", "]"]
    assert client.count_tokens("a [MASK]", split_special_tokens=True) == 6 and client.count_tokens("a [MASK]") == 4
    assert np.abs(client.encode("one two", mask_cls_sep=True) - client.encode("one two")).max() > 0.01


def test_options_reach_the_model(client):
    text = "First do it, then do it right, then do it better"
    whole = client.encode(text)
    assert np.linalg.norm(whole) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(client.encode(text, normalize=False)) > 1.5
    cut = client.encode(text, truncate_dim=64)
    same(cut, whole[:64] / np.linalg.norm(whole[:64]))
    assert client.encode(text, pooling="mean_max").shape == (2 * DIMENSION,)
    same(client.encode("it", prompt="First do "), client.encode("First do it"))
    assert np.abs(client.encode(text, max_seq_len=5) - whole).max() > 0.01
    same(client.encode(text, max_seq_len=5), client.encode("First do it"))


def test_vectors_come_in_less_memory(client, texts):
    vectors = client.encode(texts[:40])
    ranges = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
    bits = client.encode(texts[:40], precision="ubinary", batch_size=16)
    assert (bits.shape, bits.dtype) == ((40, DIMENSION // 8), np.uint8)
    clear = np.abs(vectors) > 1e-5  # of what is nearer to 0 the order of additions decides
    assert (np.unpackbits(bits, axis=1) == (vectors > 0))[clear].all()
    steps = client.encode_document((text for text in texts[:40]), precision="int8", ranges=ranges)
    assert (steps.shape, steps.dtype) == ((40, DIMENSION), np.int8)
    assert np.abs((steps + 128.5) * (ranges[1] - ranges[0]) / 255 + ranges[0] - vectors).max() < 0.01
    one = client.encode_query("First do it", precision="float16")
    assert (one.shape, one.dtype) == ((DIMENSION,), np.float16)
    with pytest.raises(client_sdk.InvalidArgument, match="ranges are of 384 numbers, and the vectors have 64"):
        client.encode(texts, precision="int8", ranges=ranges, truncate_dim=64)


async def test_ranges_are_those_that_the_export_has_measured(url):
    """On its own sentences, as vectors that are served have them; of others some numbers lie outside."""
    with Client(url, "small") as client:
        sentences = sample(TEXTS)
        vectors = client.encode(sentences)
        measured = [vectors.min(axis=0), vectors.max(axis=0)]
        expected = client.encode(sentences, precision="int8", ranges=measured)
        found = client.encode(sentences, precision="int8", normalize=client.info().normalize)
        assert found.dtype == np.int8 and (found != expected).mean() < 0.01  # the last bits decide on some steps
        assert np.abs(found.astype(int) - expected).max() <= 1
        blocks = np.concatenate([*client.encode_iter(iter(sentences), precision="int8")])
        assert np.abs(blocks.astype(int) - found).max() <= 1
        with pytest.raises(client_sdk.InvalidArgument, match="precision 'uint8' with truncate_dim=4: the ranges that"):
            client.encode(sentences, precision="uint8", truncate_dim=4)
    async with client_sdk.AsyncClient(url, "small") as other:
        assert np.abs(await other.encode(sentences, precision="int8") - blocks.astype(int)).max() <= 1
        (block,) = [block async for block in other.encode_iter(sentences[:9], precision="uint8")]
        assert np.abs(block.astype(int) - 128 - found[:9]).max() <= 1


def test_a_prompt_can_be_given_by_its_name(url):
    with Client(url, "small") as client:
        prompts = client.info().prompts
        same(client.encode("fox", prompt_name="query"), client.encode(prompts["query"] + "fox", prompt=""))


def test_queries_and_documents_get_the_checkpoints_prompts(url):
    with Client(url, "small") as client:  # whose prompts are query and passage, and the latter its default
        prompts = client.info().prompts
        same(client.encode_query("fox"), client.encode(prompts["query"] + "fox", prompt=""))
        texts = ["fox", "dog"]
        same(client.encode_document(texts), client.encode([prompts["passage"] + text for text in texts], prompt=""))
        same(client.encode_query("fox", prompt="the "), client.encode("fox", prompt="the "))
        same(
            client.encode_document("fox", prompt_name="query", max_seq_len=4), client.encode_query("fox", max_seq_len=4)
        )
    with Client(url) as client:  # which has none
        same(client.encode_query(texts), client.encode(texts))
        with pytest.raises(client_sdk.InvalidArgument, match="is_tokenized goes without one: use encode"):
            client.encode_query([["fox"]], is_tokenized=True)


def test_tokens_have_a_vector_each_and_no_padding(client):
    short, long = client.encode_tokens(["Hello", "First do it, then do it right"])
    assert short.tokens == ["[CLS]", "hello", "[SEP]"] and short.vectors.shape == (3, DIMENSION)
    assert len(long.tokens) == 10 and long.vectors.shape == (10, DIMENSION) and long.vectors.dtype == np.float32
    alone = client.encode_tokens("Hello")
    assert isinstance(alone, TokenVectors) and alone.tokens == short.tokens
    same(alone.vectors, short.vectors)
    same(client.encode("Hello", normalize=False), alone.vectors.mean(axis=0))


def test_tokens_of_pairs_and_many_texts_are_in_order(client, texts):
    items = client.encode_tokens([*texts[:100], ("one", "two")], batch_size=16)
    counts = client.count_tokens([*texts[:100], ("one", "two")])
    assert [len(item.tokens) for item in items] == counts.clip(max=256).tolist()
    assert items[-1].tokens == ["[CLS]", "one", "[SEP]", "two", "[SEP]"]
    assert len(client.encode_tokens("First do it, then do it right", max_seq_len=4).tokens) == 4


def test_tokens_are_counted_before_truncation(client):
    counts = client.count_tokens(["Hello", "hello " * 1000, ("one", "two")])
    assert counts.tolist() == [3, 1002, 5] and counts.dtype == np.int64
    assert client.count_tokens("Hello") == 3
    assert client.count_tokens("Hello", prompt="oh ") == 4


def test_info_describes_the_model(client):
    info = client.info()
    assert (info.model, info.version, info.dimension, info.max_seq_len) == ("bert", 1, DIMENSION, 256)
    assert (info.pooling, info.normalize, info.layers, info.max_batch_size) == ("mean", True, (-1,), 64)
    assert (info.prompts, info.default_prompt_name, info.backend) == ({}, None, "python")
    assert info.server_version.startswith("2.")


@pytest.mark.parametrize("model", ["bert", "layers", "small"])
def test_the_dimension_is_that_of_the_vectors(url, model):
    with Client(url, model) as client:
        assert client.encode("text").shape == (client.info().dimension,)


def test_readiness_is_asked(client, url):
    assert client.is_ready()
    assert not Client(url, "no such model").is_ready()
    assert not Client(f"{url.split(':')[0]}://127.0.0.1:1").is_ready()


def test_threads_share_a_client(client, texts):
    expected = client.encode(texts[:64])
    with ThreadPoolExecutor(16) as pool:
        rows = list(pool.map(lambda i: client.encode(texts[4 * i : 4 * i + 4]), range(16)))
    same(np.concatenate(rows), expected)


async def test_a_blocking_call_works_inside_a_running_event_loop(client):
    assert client.encode(["First do it"] * 100).shape == (100, DIMENSION)


def _encode_in_child(client, queue):
    queue.put(client.encode("First do it"))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_may_use_its_parents_client(client):
    expected = client.encode("First do it")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_encode_in_child, args=(client, queue))
    child.start()
    same(queue.get(timeout=PATIENCE), expected)
    child.join(PATIENCE)
    assert child.exitcode == 0
    same(client.encode("First do it"), expected)


def test_progress_is_shown_on_standard_error(client, capsys):
    client.encode(["First do it"] * 200, show_progress=True)
    shown = capsys.readouterr()
    assert "200/200" in shown.err and shown.out == ""
    client.encode(["First do it"] * 200)
    assert capsys.readouterr().err == ""


def test_the_two_lines_follow_the_environment(url, monkeypatch):
    monkeypatch.setenv("CLIENT_SDK_URL", url)
    assert client_sdk.encode(["First do it", "then do it right"]).shape == (2, DIMENSION)
    assert client_sdk.encode("text", truncate_dim=8).shape == (8,)
    monkeypatch.setenv("CLIENT_SDK_MODEL", "layers")
    assert client_sdk.encode("text").shape == (2 * DIMENSION,)


def test_a_big_text_and_a_big_reply_pass(client):
    assert client.encode("word " * 200_000).shape == (DIMENSION,)
    items = client.encode_tokens(["word " * 300] * 64)
    assert len(items) == 64 and items[63].vectors.shape == (256, DIMENSION)


def encode_there(client):
    return client.encode("First do it")


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_client_that_is_in_use_may_be_given_to_other_processes(client, method):
    expected = client.encode("First do it")
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        for found in pool.map(encode_there, [client] * 4):
            same(found, expected)
    same(client.encode("First do it"), expected)


@pytest.mark.parametrize("timeout", [sys.maxsize, 1e10, 10**400, np.float32(60), np.int64(60)])
def test_a_timeout_may_be_any_number_of_seconds(client, timeout):
    assert client.encode(["First do it"] * 130, timeout=timeout).shape == (130, DIMENSION)
    assert client.encode("First do it", timeout=timeout).shape == (DIMENSION,)
    assert client.info(timeout=timeout).dimension == DIMENSION and client.is_ready(timeout=timeout)
