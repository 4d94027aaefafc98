"""bert-as-service's and Weaviate's routes, on a real server."""

import json
import subprocess
from urllib.parse import urlencode

import numpy as np
import pytest

from client_sdk import LocalServer
from client_sdk.bert_as_service import BertClient
from tests.support.patience import wait_for
from tests.support.servers.gateways import RunningGateway, same

TEXTS = ["hello world", "First do it ||| then do it right"]
TOKENS = [["hello", "##ing"], ["first", "|||", "do", "it"]]


@pytest.fixture(scope="module")
def bert_client(gateway_server: LocalServer):
    with BertClient(port=int(gateway_server.grpc_url.rpartition(":")[2])) as client:
        yield client


@pytest.mark.parametrize(("texts", "is_tokenized"), [(TEXTS, False), (TOKENS, True)])
def test_vectors_are_those_of_bert_client(gateway: RunningGateway, bert_client, texts, is_tokenized):
    answer = gateway.post("/encode", id=123, texts=texts, is_tokenized=is_tokenized)
    assert answer.status == 200 and (answer.json["id"], answer.json["status"]) == (123, 200)
    expected = bert_client.encode(texts, is_tokenized=is_tokenized)
    same(np.array(answer.json["result"], np.float32), expected)


def test_curl_as_the_readme_of_bert_as_service_has_it(gateway: RunningGateway, bert_client):
    body = '{"id": 123, "texts": ["hello world"], "is_tokenized": false}'
    command = ["curl", "-s", "-X", "POST", f"{gateway.url}/encode", "-H", "content-type: application/json", "-d", body]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (answer["id"], answer["status"]) == (123, 200)
    same(np.array(answer["result"], np.float32), bert_client.encode(["hello world"]))
    asked = subprocess.run(["curl", "-s", "-X", "GET", f"{gateway.url}/status/server"], capture_output=True, check=True)
    assert json.loads(asked.stdout)["max_seq_len"] == bert_client.server_status["max_seq_len"]


@pytest.mark.parametrize(
    "fields",
    [
        [("id", "7"), *(("texts", text) for text in TEXTS)],
        {"id": 7, "texts": '["hello world", "First do it ||| then do it right"]', "is_tokenized": "false"},
    ],
)
def test_a_form_is_read_too(gateway: RunningGateway, bert_client, fields):
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = gateway.send("POST", "/encode", urlencode(fields), **form)
    assert answer.status == 200 and answer.json["id"] == "7"
    same(np.array(answer.json["result"], np.float32), bert_client.encode(TEXTS))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, '"texts" must be a list, but received NoneType'),
        ({"texts": []}, "non-empty list"),
        ({"texts": ["a", " "]}, "element 1 is ' '"),
        ({"texts": ["a"], "is_tokenized": True}, '"texts[0]" must be a list'),
        ({"texts": "a"}, "give [text]"),
    ],
)
def test_what_is_wrong_with_texts_is_said(gateway: RunningGateway, fields, message):
    answer = gateway.post("/encode", id=1, **fields)
    assert answer.status == 400 and answer.json["status"] == 400 and message in answer.json["error"]


def test_the_server_and_the_client_have_a_status(gateway: RunningGateway, bert_client):
    found = gateway.get("/status/server").json
    expected = bert_client.server_status
    for name in ("model", "max_seq_len", "pooling_layer", "pooling_strategy", "max_batch_size", "server_version"):
        assert found[name] == expected[name]
    before = found["statistic"]["num_total_seq"]
    gateway.post("/encode", texts=TEXTS)
    wait_for(lambda: gateway.get("/status/server").json["statistic"]["num_total_seq"] >= before + 2)
    assert gateway.get("/status/client").json["num_pending_request"] == 0


def test_a_vector_for_weaviate(gateway: RunningGateway, client_of):
    answer = gateway.post("/vectors", text="hello world", config={"pooling_strategy": "masked_mean"})
    assert (answer.json["text"], answer.json["dim"]) == ("hello world", 384)
    same(np.array(answer.json["vector"], np.float32), client_of("bert").encode("hello world"))
    found = gateway.post("/vectors", model="small", text="hello", config={"task_type": "query"}).json["vector"]
    same(np.array(found, np.float32), client_of("small").encode_query("hello"))


def test_weaviate_is_told_that_it_is_ready_and_what_the_model_is(gateway: RunningGateway):
    assert gateway.get("/.well-known/live").status == gateway.get("/.well-known/ready").status == 204
    assert (gateway.get("/meta").json["model"], gateway.get("/meta").json["hidden_size"]) == ("bert", 384)


def test_a_form_of_more_fields_than_a_request_may_have_is_not_taken_apart(gateway: RunningGateway):
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert gateway.send("POST", "/encode", "&".join(["texts=a"] * 2048) + "&id=1", **form).status == 200
    answer = gateway.send("POST", "/encode", "&".join(["texts=a"] * 3000), **form)
    assert answer.status == 413 and "the form has 3000 fields" in answer.json["error"]


@pytest.mark.parametrize("fields", [{}, {"text": ["a"]}, {"text": ""}])
def test_what_is_wrong_is_an_error_for_weaviate(gateway: RunningGateway, fields):
    answer = gateway.post("/vectors", **fields)
    assert answer.status == 400 and [*answer.json] == ["error"]
