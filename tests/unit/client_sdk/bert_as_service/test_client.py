import itertools
import threading
import time
import warnings

import numpy as np
import pytest

from client_sdk import ClientError, DeadlineExceeded, InvalidArgument, ServerBusy, ServerUnreachable, _session
from client_sdk._transport.retry import Deadline
from client_sdk.bert_as_service import BertClient, ConcurrentBertClient, NoResponse, _timeout
from tests.support.fake_transport import FakeTransport, texts_of
from tests.support.patience import PATIENCE, wait_for

SIZE = 3  # numbers in a vector


class Server(FakeTransport):
    """Gives each text a token for each of its characters, and a vector of their number; "wrong" is refused."""

    def __init__(self):
        super().__init__(self.reply)
        self.held = threading.Event()
        self.held.set()

    def reply(self, request):
        assert self.held.wait(PATIENCE)
        if "wrong" in texts_of(request):
            raise InvalidArgument.of_text(texts_of(request).index("wrong"), ": wrong")
        texts = ["".join(text) for text in texts_of(request)]
        lengths = np.array([len(text) for text in texts])
        kept = np.minimum(lengths, request.parameters.get("max_seq_len", 20))
        real = (np.arange(kept.max()) < kept[:, None]).astype(np.int32)
        tokens = np.full(real.shape, b"", object)
        for row, text in enumerate(texts):
            tokens[row, : kept[row]] = [character.encode() for character in text[: kept[row]]]
        vectors = np.repeat(lengths[:, None], SIZE, 1).astype(np.float32)
        everything = {
            "EMBEDDING": vectors,
            "TOKEN_EMBEDDING": vectors[:, None] * real[:, :, None].astype(np.float32),
            "TOKEN_COUNT": lengths[:, None].astype(np.int32),
            "TOKENS": tokens,
            "ATTENTION_MASK": real,
            "attention_mask": real,
            "POOLING_MASK": real,
        }
        return {name: everything[name] for name in request.outputs}

    def query(self, query, timeout):
        assert query.kind == "config"
        return super().query(query, timeout)


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setattr(_session, "open_transport", lambda connection: server)
    server.close = lambda: None
    yield server
    server.held.set()


@pytest.fixture
def client(server):
    with BertClient(ignore_all_checks=True) as client:
        yield client


# requests


def test_texts_go_out_as_bert_as_service_reads_them(server, client):
    client.encode(["one ||| other"])
    client.encode([["one", "|||", "other"]], is_tokenized=True)
    rules = {"pair_truncation": "bert_as_service"}
    pair, tokens = server.requests
    assert texts_of(pair) == [("one", "other")] and (pair.model, pair.outputs) == ("bert", ("EMBEDDING", "TOKEN_COUNT"))
    assert pair.parameters == {**rules, "split_special_tokens": True, "prompt": "", "normalize": False}
    assert texts_of(tokens) == ['["one", "|||", "other"]']
    assert tokens.parameters == {**rules, "is_tokenized": True, "normalize": False}


@pytest.mark.parametrize(
    ("strategy", "pooling"),
    [
        ("REDUCE_MEAN", "mean"),
        ("REDUCE_MAX", "max"),
        ("REDUCE_MEAN_MAX", "mean_max"),
        ("CLS_TOKEN", "cls"),
        ("FIRST_TOKEN", "cls"),
        ("SEP_TOKEN", "last"),
        ("LAST_TOKEN", "last"),
        ("CLS_POOLED", "pooler"),
    ],
)
def test_what_was_the_servers_is_sent_with_each_request(server, strategy, pooling):
    with BertClient(
        ignore_all_checks=True,
        model="other",
        pooling_strategy=strategy,
        max_seq_len=25,
        mask_cls_sep=True,
        no_special_token=True,
    ) as client:
        client.encode(["a"])
        client.encode([["a"]], is_tokenized=True)
    text, tokens = server.requests
    assert text.model == "other"
    assert (text.parameters["pooling"], text.parameters["max_seq_len"]) == (pooling, 25)
    assert text.parameters["mask_cls_sep"] is True and "add_special_tokens" not in text.parameters
    assert tokens.parameters["add_special_tokens"] is False


def test_vectors_of_tokens_are_padded_to_max_seq_len_or_to_the_longest(server):
    texts = ["ab", "abcdef"]
    with BertClient(ignore_all_checks=True, pooling_strategy="NONE") as client:
        longest = client.encode(texts)
    with BertClient(ignore_all_checks=True, pooling_strategy="NONE", max_seq_len=8) as client:
        fixed, tokens = client.encode(texts, show_tokens=True)
    assert longest.shape == (2, 6, SIZE) and fixed.shape == (2, 8, SIZE) and longest.dtype == np.float32
    np.testing.assert_array_equal(fixed[:, :6], longest)
    assert fixed[0, :2].all() and not fixed[0, 2:].any() and not fixed[:, 6:].any()
    assert tokens == [list("ab"), list("abcdef")]


def test_lists_are_lists_all_the_way_down(server):
    with BertClient(output_fmt="list", ignore_all_checks=True) as client:
        assert client.encode(["a", "bcd"]) == [[1.0] * SIZE, [3.0] * SIZE]
        client.encode(["a"], blocking=False)
        client.encode(["bcd"], blocking=False)
        assert client.fetch_all(concat=True) == [[1.0] * SIZE, [3.0] * SIZE]


def test_texts_that_are_cut_are_counted_in_one_warning(server, client):
    texts = ["a" * length for length in (2, 24, 25, 26, 30)] * 40
    client._warn_above = 25
    with pytest.warns(UserWarning) as caught:
        client.encode(texts)
    (warning,) = caught
    assert str(warning.message).startswith("80 of 200 texts have more tokens than max_seq_len=25 and were cut")
    assert warning.filename == __file__
    client.encode(texts, blocking=False)
    with pytest.warns(UserWarning, match="80 of 200") as caught:
        client.fetch_all()
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.encode(texts[:3])


# without waiting


def sent(client, *batches):
    for texts in batches:
        assert client.encode(texts, blocking=False) is None


def test_results_are_fetched_in_the_order_sent(client):
    sent(client, ["aaaa"] * 200, ["b"], ["cc", "ccc"])
    assert client.status["num_pending_request"] == 3
    responses = list(client.fetch())
    assert [response.embedding[:, 0].tolist() for response in responses] == [[4.0] * 200, [1.0], [2.0, 3.0]]
    assert [response.id for response in responses] == [1, 2, 3] and responses[0].tokens == ""
    assert list(client.fetch()) == [] and client.fetch_all() is None
    assert client.status["num_pending_request"] == 0 and client.status["num_request"] == 3


def test_a_list_may_be_used_again_while_it_is_on_its_way(server, client):
    server.held.clear()
    texts, tokens = ["a"] * 5, [["a"] * 5]
    for _ in range(6):  # some of them wait here
        client.encode(texts, blocking=False)
        client.encode(tokens, blocking=False, is_tokenized=True)
    texts.clear()
    tokens[0].clear()
    server.held.set()
    assert [len(vectors) for vectors in client.fetch_all()] == [5, 1] * 6


def test_a_closed_client_says_so(client):
    client.encode(["a"], blocking=False)
    client.close()
    for blocking in (True, False):
        with pytest.raises(ClientError, match="is closed"):
            client.encode(["a"], blocking=blocking)
            list(client.fetch())


def test_results_can_be_joined_and_show_their_tokens(client):
    sent(client, ["aaaa"], ["b", "cc"])
    assert client.fetch_all(concat=True).tolist() == [[4.0] * SIZE, [1.0] * SIZE, [2.0] * SIZE]
    client.encode(["ab"], blocking=False, show_tokens=True)
    assert next(client.fetch()).tokens == [["a", "b"]]


def test_joined_vectors_of_tokens_are_padded_to_the_longest(server):
    with BertClient(ignore_all_checks=True, pooling_strategy="NONE") as client:
        sent(client, ["ab"], ["abcd", "a"])
        joined = client.fetch_all(concat=True)
    assert joined.shape == (3, 4, SIZE) and not joined[0, 2:].any() and joined[1].all()


def test_a_blocking_call_between_takes_no_result_of_the_others(client):
    sent(client, ["a"], ["bb"])
    assert client.encode(["ccc"])[0, 0] == 3
    assert [vectors[0, 0] for vectors in client.fetch_all()] == [1, 2]


def test_a_failed_request_is_raised_in_its_place_and_costs_no_other(client):
    sent(client, ["a"], ["fine", "wrong"], ["ccc"])
    fetched = client.fetch()
    assert next(fetched).embedding[0, 0] == 1
    with pytest.raises(ValueError, match="text 1: wrong"):
        next(fetched)
    assert [response.embedding[0, 0] for response in client.fetch()] == [3]

    sent(client, ["a"], ["wrong"], ["ccc"])
    with pytest.raises(ValueError, match="text 0: wrong"):
        client.fetch_all()
    assert [vectors[0, 0] for vectors in client.fetch_all()] == [1, 3]


def test_a_generator_that_pauses_loses_no_results(client):
    def slow():
        for length in (1, 2, 3):
            time.sleep(0.1)  # until nothing is on its way
            yield ["a" * length]

    assert [response.embedding[0, 0] for response in client.encode_async(slow(), delay=0)] == [1, 2, 3]


def test_a_result_comes_before_the_generator_has_made_the_next_batch(client):
    more = threading.Event()

    def batches():
        yield ["a"]
        assert more.wait(PATIENCE)
        yield ["bb"]

    responses = client.encode_async(batches())
    assert next(responses).embedding[0, 0] == 1
    more.set()
    assert next(responses).embedding[0, 0] == 2


def test_an_endless_generator_is_read_a_few_batches_ahead_and_no_further(client):
    made = itertools.count()
    responses = client.encode_async(["a" * (1 + next(made))] for _ in itertools.count())
    assert [next(responses).embedding[0, 0] for _ in range(3)] == [1, 2, 3]
    time.sleep(0.1)
    before = next(made)
    assert before < 20
    responses.close()
    time.sleep(0.1)
    assert next(made) <= before + 2


def test_no_more_batches_are_read_than_asked_for(client):
    batches = iter([["a"], ["bb"], ["ccc"]])
    assert len(list(client.encode_async(batches, max_num_batch=2))) == 2
    assert next(batches) == ["ccc"]


def test_what_goes_wrong_in_a_stream_is_raised_behind_the_results_before_it(client):
    def batches(last):
        yield ["a"]
        yield last()

    def fail():
        raise KeyError("the generator's own")

    for last, error in ((fail, KeyError), (lambda: ("a",), TypeError), (lambda: ["wrong"], ValueError)):
        responses = client.encode_async(batches(last))
        assert next(responses).embedding[0, 0] == 1
        with pytest.raises(error):
            next(responses)


def test_a_stream_of_tokens_shows_its_tokens(server, client):
    (response,) = client.encode_async([[["a", "b"]]], is_tokenized=True, show_tokens=True)
    assert server.requests[0].parameters["is_tokenized"] is True
    assert response.tokens == [list('["a", "b"]')]
    with pytest.raises(TypeError):
        client.encode_async([["a"]], wrong=1)


# time


def test_a_timeout_is_in_milliseconds_and_none_is_generous_but_not_for_ever(client):
    assert client._deadline(["text"] * 1000).timeout == 60 + 10 * 1000
    texts = ["x" * 8000, ("x" * 8000, "y" * 9000), ["token"] * 20_000, "x" * 10**6]
    assert client._deadline(texts).timeout == 60 + 80 + 170 + 200 + 327.68
    client.timeout = 1500
    assert client._deadline(["text"] * 1000).timeout == 1.5


def test_no_server_is_an_error_of_both_kinds():
    for options in ({}, {"timeout": 500}):
        with pytest.raises(NoResponse) as caught:
            BertClient(port=1, **options)
        assert isinstance(caught.value, TimeoutError) and isinstance(caught.value, ConnectionError)
    with BertClient(port=1, ignore_all_checks=True) as client, pytest.raises(ServerUnreachable):
        client.encode(["a"])


def test_a_server_that_stays_busy_is_a_timeout(server, monkeypatch):
    attempts = 0

    def busy(request):
        nonlocal attempts
        attempts += 1
        raise ServerBusy("the queue is full")

    def deadline(seconds):
        return Deadline(seconds, lambda: 0.05 * attempts)  # each attempt takes so long, and nothing else takes time

    server.answer = busy
    monkeypatch.setattr(_timeout, "Deadline", deadline)
    with BertClient(ignore_all_checks=True, timeout=200) as client, pytest.raises(TimeoutError, match="queue is full"):
        client.encode(["a"])
    assert 3 <= attempts <= 4


# many threads


def test_no_more_calls_than_max_concurrency_are_on_their_way_and_the_others_wait(server):
    pair = threading.Barrier(2)

    def slow(request):
        pair.wait(PATIENCE)
        time.sleep(0.01)  # for a third, if there were one
        return server.reply(request)

    server.answer = slow
    found = {}
    with ConcurrentBertClient(max_concurrency=2, ignore_all_checks=True) as client:

        def work(place):
            found[place] = client.encode(["a" * (1 + place)])[0, 0]

        threads = [threading.Thread(target=work, args=(place,)) for place in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {place: 1 + place for place in range(12)} and server.most_flying == 2


def test_who_waits_for_a_place_waits_no_longer_than_its_timeout(server):
    with ConcurrentBertClient(max_concurrency=1, ignore_all_checks=True) as client:
        server.held.clear()
        client.encode(["a"], blocking=False)
        wait_for(lambda: server.requests)
        client.timeout = 200
        with pytest.raises(DeadlineExceeded, match="with 1 other calls on their way"):
            client.encode(["b"])
        server.held.set()
        assert client.fetch_all()[0][0, 0] == 1


def test_each_thread_fetches_what_it_has_sent(server):
    found = {}
    with ConcurrentBertClient(ignore_all_checks=True) as client:
        barrier = threading.Barrier(8)

        def work(place):
            sent(client, ["a" * (1 + place)], ["b" * (10 + place)])
            barrier.wait()
            found[place] = [vectors[0, 0] for vectors in client.fetch_all()]

        threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.fetch_all() is None and client.status["num_request"] == 16
        assert [response.embedding[0, 0] for response in client.encode_async([["a"], ["bb"]])] == [1, 2]
    assert found == {place: [1 + place, 10 + place] for place in range(8)}


def test_a_client_is_one_for_many_threads(server):
    with ConcurrentBertClient(ignore_all_checks=True, identity="me") as client:
        assert isinstance(client, BertClient)
        assert client.status["identity"] == "me" and client.status["pending_request"] == set()
    with pytest.raises(ValueError, match="max_concurrency must be at least 1"):
        ConcurrentBertClient(0)
