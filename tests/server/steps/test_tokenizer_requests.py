"""Requests that are wrong, long or odd, beside good ones, at the tokenizer step of a real server."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tritonclient.utils import InferenceServerException

from client_sdk import Client, InvalidArgument, LocalServer
from tests.support.servers.triton_requests import infer, refused

IDENTITY = "0123456789abcdef" * 2


def copy_tokenizer(repository: Path, name: str, target: Path, **parameters: str) -> Path:
    """The tokenizer step of `bert` as a model of its own, with more parameters in its config."""
    copy = target / name
    shutil.copytree(repository / "bert_tokenizer", copy, ignore=shutil.ignore_patterns("__pycache__"))
    lines = (copy / "config.pbtxt").read_text().splitlines(keepends=True)
    config = "".join(line for line in lines if '"identity.1"' not in line)
    config = config.replace('name: "bert_tokenizer"', f'name: "{name}"')
    (copy / "1" / "identity").write_text(parameters.get("identity.1", ""))
    for key, value in parameters.items():
        config += f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
    (copy / "config.pbtxt").write_text(config)
    return copy


@pytest.fixture(scope="module")
def own_server(bert_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server that forwards headers: the family `bert`, and tokenizer steps that stand alone.

    `known` has an identity, `left` cuts on the left, `panics` has a regular expression that gives up on many x;
    `one` has two versions and `two` one, each with a neighbour module that tells which it is.
    """
    repository = tmp_path_factory.mktemp("own") / "models"
    shutil.copytree(bert_repository, repository, ignore=shutil.ignore_patterns("__pycache__"))
    copy_tokenizer(bert_repository, "known", repository, **{"identity.1": IDENTITY})
    copy_tokenizer(bert_repository, "left", repository, truncation_side="left")
    file = copy_tokenizer(bert_repository, "panics", repository) / "1" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    words = pre_tokenizers.Split(Regex(r"^(x+x+)+y$"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), words])
    tokenizer.save(str(file))
    one = copy_tokenizer(bert_repository, "one", repository)
    two = copy_tokenizer(bert_repository, "two", repository)
    shutil.copytree(one / "1", one / "2")
    with (one / "config.pbtxt").open("a") as config:
        config.write("version_policy { all { } }\n")
    for version in (one / "1", one / "2", two / "1"):
        module = version / "request_parameters.py"
        source = module.read_text().replace("unknown parameter", f"{version.parent.name} {version.name}: unknown")
        module.write_text(source)
    with LocalServer(
        repository, extra_args=["--http-header-forward-pattern=.*", "--grpc-header-forward-pattern=.*"]
    ) as server:
        yield server


@pytest.fixture(scope="module")
def own_client(own_server: LocalServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(own_server.grpc_url.removeprefix("grpc://")) as client:
        yield client


def tokens(client: triton.InferenceServerClient, model: str, text: str, **parameters: Any) -> list[bytes]:
    array = np.array([[text.encode()]], object)
    return infer(client, model, {"TEXT": array}, ["TOKENS"], parameters)["TOKENS"][0].tolist()


def test_forwarded_headers_are_no_parameters_and_a_misspelt_one_is_still_an_error(own_server):
    headers = {
        "x-tenant": "7",
        "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        "Authorization": "Bearer abc",
    }
    for url in (own_server.grpc_url, own_server.http_url):
        with Client(url) as client:
            assert client.encode("a text").shape == (384,)
    body = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["a text"]}]}
    for parameters, expected in (({}, 200), ({"normalise": True}, 400), ({"max_seq_length": 5}, 400)):
        with closing(http.client.HTTPConnection(own_server.http_url.removeprefix("http://"), timeout=30)) as connection:
            text = json.dumps({**body, "parameters": parameters})
            connection.request("POST", "/v2/models/bert/infer", text, headers)
            assert connection.getresponse().status == expected


def test_parameters_that_are_no_utf8_harm_no_request_of_others_and_fill_no_log(own_server):
    poisoned = (
        b'{"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]}], "parameters": {%s}}'
    )
    done = threading.Event()
    statuses = []

    def poison(parameter: bytes) -> None:
        address = own_server.http_url.removeprefix("http://")
        while not done.is_set():
            with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
                connection.request("POST", "/v2/models/bert_tokenizer/infer", poisoned % parameter)
                statuses.append(connection.getresponse().status)

    before = len(own_server.log_lines())
    threads = [threading.Thread(target=poison, args=(p,)) for p in (b'"prompt": "\xff\xfe"', b'"\xff": 1')]
    for thread in threads:
        thread.start()
    try:
        with Client(own_server.grpc_url) as client:
            while len(statuses) < 100:
                assert client.count_tokens(["hello", "one two"]).tolist() == [3, 4]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {400}
    assert len(own_server.log_lines()) - before < 10


def test_a_panic_of_the_tokenizer_is_the_requests_own_error(own_server, own_client):
    answers: list[object] = []

    def ask(text: str) -> None:
        try:
            answers.append(tokens(own_client, "panics", text))
        except InferenceServerException as error:
            answers.append(error)

    threads = [threading.Thread(target=ask, args=("x" * 40 if i % 4 == 0 else "hello",)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [answer for answer in answers if isinstance(answer, InferenceServerException)]
    assert len(errors) == 3 and all("retry-limit-in-match over" in str(error) for error in errors)
    assert answers.count([b"[CLS]", b"hello", b"[SEP]"]) == 9


def test_a_request_for_another_model_is_not_found(own_client):
    assert tokens(own_client, "known", "hello", identity=IDENTITY) == [b"[CLS]", b"hello", b"[SEP]"]
    assert tokens(own_client, "left", "hello", identity="any, as it has none")
    with pytest.raises(
        InferenceServerException, match=f"NOT_FOUND.*identity: the request is for x, and this is {IDENTITY}"
    ):
        tokens(own_client, "known", "hello", identity="x")


def test_a_tokenizer_that_cuts_on_the_left_keeps_the_last_tokens(own_client):
    for text in ("one two three four", "one " * 100_000 + "three four"):
        assert tokens(own_client, "left", text, max_seq_len=4) == [b"[CLS]", b"three", b"four", b"[SEP]"]


@pytest.mark.parametrize(("model", "version"), [("one", "1"), ("one", "2"), ("two", "1")])
def test_each_version_of_each_family_has_its_own_neighbour_modules(own_client, model, version):
    tensor = triton.InferInput("TEXT", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"hello"]], object))
    with refused(f"{model} {version}: unknown 'nope'"):
        own_client.infer(model, [tensor], model_version=version, parameters={"nope": 1})


LONG = {
    "documents": (["the quick brown fox " * 26_000] * 8, {}),
    "full stops": (["." * 400_000] * 8, {}),
    "pairs": ([("a b " * 60_000, "c d " * 60_000)] * 8, {}),
    "one word": (["x" * 500_000] * 8, {}),
    "tokens": ([["the", "fox"] * 50_000] * 48, {"is_tokenized": True}),
}


@pytest.mark.parametrize("what", LONG)
def test_short_texts_are_served_while_long_ones_are_tokenized(own_server, what):
    """If they waited for the long ones, one would be."""
    texts, options = LONG[what]
    with Client(own_server.grpc_url, timeout=300) as client, Client(own_server.grpc_url) as other:
        client.count_tokens("warm"), other.count_tokens("warm")
        ended = threading.Event()
        counts: list[Any] = []

        def count() -> None:
            counts.append(client.count_tokens(texts, **options))
            ended.set()

        thread = threading.Thread(target=count)
        thread.start()
        served = 0
        while not ended.is_set():
            assert other.count_tokens("a short text") == 5
            served += 1
        thread.join()
    assert all(len(set(found.tolist())) == 1 for found in counts)
    assert served >= 8


def test_texts_that_are_cut_are_counted_by_whichever_thread_is_done_with_them(repository, tmp_path):
    """Those of one piece, at once, and those of more, in turns; both at a time have ended tritonserver."""
    for path in repository.glob("small*"):
        shutil.copytree(path, tmp_path / path.name)
    texts = ["a " * 60, "a " * 700]
    with LocalServer(tmp_path) as server:

        def ask(text: str) -> None:
            with Client(server.grpc_url, "small") as client:
                assert min(client.count_tokens([text] * 4000)) > 60  # and 40 are kept

        with ThreadPoolExecutor() as pool:
            list(pool.map(ask, texts))
        with urllib.request.urlopen(server.metrics_url) as page:
            (count,) = re.findall(r'bert_truncated_texts_total{model="small"} (\d+)', page.read().decode())
    assert int(count) == 8000


def test_a_prompt_is_refused_before_it_is_put_before_every_text(own_server):
    with Client(own_server.grpc_url) as client:
        for size in (16_385, 1 << 20, 4 << 20):
            with pytest.raises(InvalidArgument, match="prompt.*16384"):
                client.encode(["x y"] * 64, prompt="a" * size)
        assert client.encode("x y", prompt="a " * 8192).shape == (384,)
