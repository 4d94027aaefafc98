"""The vectors of bert-as-service 1.10.0, as its own client and server gave them, from ours.

tests/data/bert_as_service holds what was recorded with all-MiniLM-L6-v2, cut to some of the texts: a file for each
server, named `seq<max_seq_len>_<STRATEGY>_l<layers>` and its flags; `tiny_reference.npz` is of the Chinese checkpoint.
"""

import json
import re
import runpy
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from client_sdk import Client, LocalServer
from client_sdk.bert_as_service import BertClient, ConcurrentBertClient
from tests.conftest import fill
from tests.support import reference
from tests.support.servers.local_servers import server_for_many_tests, wait_for

DATA = reference.DATA / "bert_as_service"
RECORDINGS = sorted(DATA.glob("seq*.npz"))
SENTENCES = json.loads((DATA / "sentences.json").read_text(encoding="utf-8"))
TEXTS, TOKENIZED = SENTENCES["texts"], SENTENCES["tokenized"]
FLAGS = {"": {}, "maskclssep": {"mask_cls_sep": True}, "nospecialtoken": {"no_special_token": True}}


@pytest.fixture(scope="module")
def bert_as_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A tritonserver with families as bert-as-service served them.

    `default`: all-MiniLM-L6-v2 as `bert-serving-start` without options has it. `layer-2`, `layers-1-2` and
    `layers-1-2-3-4`: its layers, up to 512 tokens. `tiny-2`, `tiny-1`, `tiny-1-2`: the tiny Chinese checkpoint's.
    """
    repository = tmp_path_factory.mktemp("bert_as_service")
    tiny = reference.DATA / "tiny_google_bert_zh"
    fill(repository, reference.checkpoint(), "default", layers=(-2,), max_seq_len=25, pooling="mean", normalize=False)
    fill(repository, reference.checkpoint(), "layer-2", layers=(-2,), max_seq_len=512, pooling="pooler")
    fill(repository, reference.checkpoint(), "layers-1-2", layers=(-1, -2), max_seq_len=512)
    fill(repository, reference.checkpoint(), "layers-1-2-3-4", layers=(-1, -2, -3, -4), max_seq_len=512)
    fill(repository, tiny, "tiny-2", layers=(-2,))
    fill(repository, tiny, "tiny-1", layers=(-1,))
    fill(repository, tiny, "tiny-1-2", layers=(-1, -2))
    with server_for_many_tests(repository) as running:
        yield running


@pytest.fixture
def port(bert_as_service):
    return int(bert_as_service.grpc_url.rpartition(":")[2])


@pytest.fixture
def connect(port):
    """connect(family, **options): a client that warns of nothing, unless asked to."""
    clients = []

    def connect(model, check_length=False, **options):
        clients.append(BertClient("127.0.0.1", port, model=model, check_length=check_length, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def client_of(recording, connect):
    length, strategy, layers, flag = re.fullmatch(r"seq(\w+?)_([A-Z_]+)_l([-\d]+)_?(\w*)", recording).groups()
    family = f"layer{'s' if layers.count('-') > 1 else ''}{layers}"
    max_seq_len = None if length == "dyn" else int(length)
    return connect(family, pooling_strategy=strategy, max_seq_len=max_seq_len, **FLAGS[flag])


def assert_same(found, expected):
    assert found.shape == expected.shape and found.dtype == np.float32
    np.testing.assert_array_equal((found == 0).all(-1), (expected == 0).all(-1))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_vectors_equal_those_recorded(path, connect):
    client = client_of(path.stem, connect)
    with np.load(path) as recorded:
        assert_same(client.encode([TEXTS[row] for row in recorded["text_rows"]]), recorded["text"])
        tokens = [TOKENIZED[row] for row in recorded["tokenized_rows"]]
        assert_same(client.encode(tokens, is_tokenized=True), recorded["tokenized"])
        for row, expected in zip(recorded.get("single_rows", ()), recorded.get("single", ()), strict=True):
            assert_same(client.encode([TEXTS[row]])[0], expected)
        if "long" in recorded:
            assert_same(client.encode([SENTENCES["long"], TEXTS[0]]), recorded["long"])


def test_tokens_equal_those_recorded(connect):
    expected = json.loads((DATA / "tokens.json").read_text(encoding="utf-8"))
    for strategy in ("REDUCE_MEAN", "NONE"):
        client = connect("layer-2", pooling_strategy=strategy, max_seq_len=25)
        assert client.encode(TEXTS, show_tokens=True)[1] == expected["text"]
        assert client.encode(TOKENIZED, is_tokenized=True, show_tokens=True)[1] == expected["tokenized"]


@pytest.mark.parametrize("recording", ["seq25_REDUCE_MEAN_l-2", "seq25_NONE_l-1", "seqdyn_CLS_POOLED_l-1"])
def test_a_google_checkpoint_gives_the_vectors_recorded(recording, connect):
    texts = json.loads((reference.DATA / "tiny_texts.json").read_text(encoding="utf-8"))
    with np.load(reference.DATA / "tiny_reference.npz") as recorded:
        length, strategy, layer = re.fullmatch(r"seq(\w+?)_([A-Z_]+)_l(-\d)", recording).groups()
        options = {"max_seq_len": None if length == "dyn" else int(length), "pooling_strategy": strategy}
        assert_same(connect(f"tiny{layer}", **options).encode(texts), recorded[recording])
        two = connect("tiny-1-2", pooling_strategy="REDUCE_MEAN").encode(texts)
        assert_same(two, recorded["seqdyn_REDUCE_MEAN_l-1-2"])


def test_vectors_of_tokens_are_no_longer_than_the_longest_text_needs(connect):
    pair, single = "a ||| b", "a b c d e"
    client = connect("layer-2", pooling_strategy="NONE")
    vectors, tokens = client.encode([pair, single], show_tokens=True)
    assert tokens[0] == ["[CLS]", "a", "[SEP]", "b", "[SEP]"]
    assert vectors.shape == (2, 7, 384) and vectors[0, 4].any() and not vectors[0, 5:].any()  # there: 8, for the pair
    bare = connect("layer-2", pooling_strategy="NONE", no_special_token=True)
    assert bare.encode([["a", "b"], ["a"]], is_tokenized=True).shape == (2, 2, 384)  # there: 4


def test_with_mask_cls_sep_the_last_token_is_still_sep(connect, bert_as_service):
    text = "one two"
    blanked = connect("layer-2", pooling_strategy="NONE", mask_cls_sep=True).encode([text])[0]
    assert blanked.any(axis=1).tolist() == [False, True, True, False]
    last = connect("layer-2", pooling_strategy="SEP_TOKEN", mask_cls_sep=True).encode([text])[0]
    with Client(bert_as_service.grpc_url, "layer-2") as client:
        tokens, vectors = client.encode_tokens(text, mask_cls_sep=True)
    assert tokens[-1] == "[SEP]"
    np.testing.assert_allclose(last, vectors[-1], rtol=0, atol=1e-5)  # there: that of "one"


def test_vectors_are_never_normalised(connect, bert_as_service):
    def length(vectors):
        return np.linalg.norm(vectors.ravel())

    with Client(bert_as_service.grpc_url, "layer-2") as client:  # a family that normalises
        assert length(client.encode("First do it")) == pytest.approx(1, abs=1e-5)
    for strategy in (None, "REDUCE_MEAN", "CLS_POOLED", "NONE"):
        assert length(connect("layer-2", pooling_strategy=strategy).encode(["First do it"])) > 1.1


def test_what_is_cut_is_counted_in_one_warning(connect):
    texts = ["short", "word " * 30, "word " * 24, "word " * 23, "one ||| " + "word " * 30]
    with pytest.warns(UserWarning, match="3 of 5 texts have more tokens than max_seq_len=25") as caught:
        connect("default", check_length=True).encode(texts)
    assert len(caught) == 1
    shorter = connect("default", check_length=True, max_seq_len=10, pooling_strategy="NONE")
    with pytest.warns(UserWarning, match="4 of 5 texts have more tokens than max_seq_len=10"):
        shorter.encode(texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shorter.encode(texts[:1])
        connect("default").encode(texts)


def test_a_timeout_is_a_timeout_error(connect):
    client = connect("layers-1-2-3-4")
    client.timeout = 20
    with pytest.raises(TimeoutError):
        client.encode(["word " * 500] * 300)


def test_the_servers_refusal_is_a_value_error(connect):
    with pytest.raises(ValueError, match="max_seq_len is 26; it takes 3 to 25"):
        connect("default", max_seq_len=26).encode(["a"])
    with pytest.raises(ValueError, match="'pooler'; this model takes mean"):
        connect("tiny-2", pooling_strategy="CLS_POOLED").encode(["a"])
    with pytest.raises(LookupError, match="no model 'nothing'.*there: default, layer-2"):
        connect("nothing")


def test_the_server_says_what_it_is_and_what_it_did(connect, capsys):
    client = connect("layers-1-2", pooling_strategy="REDUCE_MAX", show_server_config=True)
    config = client.server_config
    shown = capsys.readouterr().out
    assert shown.startswith("server config:\n") and all(f" {name}\t=\t" in shown for name in config)
    assert (config["pooling_layer"], config["pooling_strategy"], config["max_seq_len"]) == ([-1, -2], 1, 512)
    before = client.server_status["statistic"]
    client.encode(["a", "b", "c"])
    client.encode(["a ||| b"])

    def gained() -> tuple[int, int]:
        now = client.server_status["statistic"]
        return tuple(now[name] - before[name] for name in ("num_data_request", "num_total_seq"))

    wait_for(lambda: gained() == (2, 4))  # Triton answers a request, then counts it


def test_a_script_for_bert_serving_client_runs_by_changing_its_import(port, tmp_path, monkeypatch):
    source = (DATA / "script.py").read_text(encoding="utf-8")
    ours = source.replace("from bert_serving.client import", "from client_sdk.bert_as_service import")
    changed = [line for line in ours.splitlines() if line not in source.splitlines()]
    assert changed == ["from client_sdk.bert_as_service import BertClient, ConcurrentBertClient"]
    script = tmp_path / "script.py"
    script.write_text(ours, encoding="utf-8")
    monkeypatch.setenv("CLIENT_SDK_MODEL", "default")
    found = runpy.run_path(str(script))["main"](port, port + 1, 1)

    recorded = dict(np.load(DATA / "results.npz"))
    others = json.loads((DATA / "results.json").read_text(encoding="utf-8"))
    assert sorted(found) == sorted([*recorded, *others])
    assert {name: found[name] for name in others} == others
    for name, expected in recorded.items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-5, err_msg=name)


def test_many_threads_share_a_concurrent_client(port, texts):
    some = texts[:48]
    options = {"ip": "127.0.0.1", "port": port, "model": "default", "check_length": False}
    with ConcurrentBertClient(3, **options) as client, ThreadPoolExecutor(12) as pool:
        alone = np.concatenate(list(pool.map(lambda text: client.encode([text]), some)))
        np.testing.assert_allclose(alone, client.encode(some), rtol=0, atol=1e-5)
        streamed = np.concatenate([batch.embedding for batch in client.encode_async([some[:20], some[20:]])])
        np.testing.assert_allclose(streamed, alone, rtol=0, atol=1e-5)
        assert client.server_config["max_seq_len"] == 25 and client.server_status["statistic"]


def test_every_strategy_has_a_recording():
    strategies = {path.stem.partition("_")[2].partition("_l")[0] for path in RECORDINGS}
    expected = "NONE REDUCE_MEAN REDUCE_MAX REDUCE_MEAN_MAX CLS_TOKEN SEP_TOKEN CLS_POOLED"
    assert strategies == set(expected.split())
