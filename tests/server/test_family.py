"""The models of a family, asked as any Triton client asks them."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from tests.conftest import PROMPTS
from tests.support import reference
from tests.support.checkpoints import plain_bert
from tests.support.patience import settled, wait_for
from tests.support.servers.triton_requests import infer, refused

# bad requests


@pytest.mark.parametrize(
    ("texts", "parameters", "match"),
    [
        (["a", ""], {}, r"text 1: empty or blank"),
        (["a", " \t\n"], {}, r"text 1: empty or blank"),
        (["a", b"\xff\xfe"], {}, r"text 1: not valid UTF-8 .* at byte 0"),
        (["x" * ((1 << 20) + 1)], {}, r"text 0: 1048577 bytes; a text may have 1048576"),
        ([("a", "b", "c")], {}, r"TEXT has shape \[1, 3\].*\[N, 1\].*\[N, 2\]"),
        (["a"], {"colour": "red"}, r"unknown parameter 'colour'; the parameters are .*pooling"),
        (["a"], {"max_seq_len": 2}, r"max_seq_len is 2; it takes 3 to 256"),
        (["a"], {"max_seq_len": 257}, r"max_seq_len is 257; it takes 3 to 256"),
        ([("a", "b")], {"max_seq_len": 4}, r"max_seq_len is 4; it takes 5 to 256"),
        (["a"], {"max_seq_len": "9"}, r"max_seq_len is '9'; it takes an integer"),
        (["a"], {"truncate": 1}, r"truncate is 1; it takes true or false"),
        (["a", "word " * 300], {"truncate": False}, r"text 1: 302 tokens, more than max_seq_len 256"),
        (["a"], {"prompt": "x", "prompt_name": "y"}, r"prompt and prompt_name are both given"),
        (["a"], {"prompt_name": "y"}, r"prompt_name is 'y'; this model's prompts: none"),
        (["a"], {"is_tokenized": True}, r"text 0: with is_tokenized a text is one JSON array"),
        (['["a", 1]'], {"is_tokenized": True}, r"text 0: with is_tokenized"),
        ([("[]", "[]")], {"is_tokenized": True}, r"text 0: with is_tokenized"),
        (["[]"], {"is_tokenized": True}, r"text 0: no tokens"),
        (['["a"]'], {"is_tokenized": True, "prompt": "x"}, r"is_tokenized goes without a prompt"),
        (['["|||"]'], {"is_tokenized": True}, r"text 0: no tokens"),
        (['["a"]', '["\\ud800"]'], {"is_tokenized": True}, r"text 1: with is_tokenized"),
        (["[" * 100_000], {"is_tokenized": True}, r"text 0: with is_tokenized"),
        (['["a", "|||", "b"]'], {"is_tokenized": True, "max_seq_len": 3}, r"max_seq_len is 3; it takes 4 to 256"),
        (["a"], {"add_special_tokens": False}, r"add_special_tokens is false; .* together with is_tokenized only"),
        ([("a", "b")], {"pair_truncation": "both"}, r"pair_truncation is 'both'; it takes longest_first or bert_as_"),
        ([("a", "b")], {"pair_truncation": "bert_as_service", "max_seq_len": 3}, r"max_seq_len is 3; it takes 4 to"),
        (["a"], {"split_special_tokens": "yes"}, r"split_special_tokens is 'yes'; it takes true or false"),
        (
            ["a"],
            {"pooling": "median"},
            r"pooling is 'median'; this model takes mean, max, mean_max, cls, last, lasttoken, pooler, and several",
        ),
        (["a"], {"pooling": 3}, r"pooling is 3"),
        (["a"], {"normalize": "yes"}, r"normalize is 'yes'; it takes true or false"),
        (["a"], {"truncate_dim": 0}, r"truncate_dim is 0; it takes 1 to 384"),
        (["a"], {"truncate_dim": 385}, r"truncate_dim is 385; it takes 1 to 384"),
        (["a"], {"truncate_dim": True}, r"truncate_dim is True"),
    ],
)
def test_bad_input_is_refused_and_says_why(ask, texts, parameters, match):
    with refused(match):
        ask("bert", "EMBEDDING", texts, **parameters)


def test_an_unknown_prompt_name_lists_those_there_are(ask):
    with refused(r"prompt_name is 'question'; this model's prompts: passage, query"):
        ask("small", "EMBEDDING", ["a"], prompt_name="question")


def test_pooling_by_a_pooler_that_is_not_there_is_refused(ask):
    with refused(r"pooling is 'pooler'; this model takes mean, max, mean_max, cls, last"):
        ask("layers", "EMBEDDING", ["a"], pooling="pooler")


def test_bad_requests_among_good_ones_fail_alone(ask, texts, expected):
    def one(index: int) -> np.ndarray:
        if index % 3 == 0:
            with refused("text 0: empty or blank"):
                ask("bert", "EMBEDDING", [" "])
        elif index % 3 == 1:
            with refused("normalize"):
                ask("bert", "EMBEDDING", ["a"], normalize="maybe")
        return ask("bert", "EMBEDDING", [texts[index]])[0]

    with ThreadPoolExecutor(16) as pool:
        vectors = np.stack(list(pool.map(one, range(90))))
    np.testing.assert_allclose(vectors, expected["sentence"][:90], rtol=0, atol=1e-5)


# encoder


def ids(rows: list[list[int]], width: int) -> dict[str, np.ndarray]:
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int32)
    return {
        "input_ids": np.array([row + [0] * (width - len(row)) for row in rows], np.int32),
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(mask),
        "pooling_mask": mask,
    }


def test_the_encoder_takes_ordinary_padded_tensors(grpc_client, small_checkpoint):
    rows = [[5, 6, 7], [8] * 9, [5]]
    found = infer(grpc_client, "small_encoder", ids(rows, 12), ["token_embeddings", "pooled"])
    assert found["token_embeddings"].shape == (3, 12, 32) and found["pooled"].shape == (3, 4, 32)
    weights = load_file(small_checkpoint / "model.safetensors")
    for index, row in enumerate(rows):
        last = plain_bert.layers(weights, row, heads=4)[-1]
        np.testing.assert_allclose(found["token_embeddings"][index, : len(row)], last, atol=1e-5)
        assert not found["token_embeddings"][index, len(row) :].any()
        expected = [last.mean(0), last.max(0), last[0], last[-1]]
        np.testing.assert_allclose(found["pooled"][index], expected, atol=1e-5)


def test_rows_without_a_token_are_zero(grpc_client):
    found = infer(grpc_client, "small_encoder", ids([[], [5, 6], []], 4), ["token_embeddings", "pooled"])
    assert not found["pooled"][[0, 2]].any() and not found["token_embeddings"][[0, 2]].any()
    assert found["pooled"][1].any()
    assert not infer(grpc_client, "small_encoder", ids([[], []], 4), ["pooled"])["pooled"].any()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"input_ids": np.full((1, 4), 9999, np.int32)}, r"input_ids has values outside 0 to \d+"),
        ({"input_ids": np.full((1, 4), -1, np.int32)}, r"input_ids has values outside"),
        ({"token_type_ids": np.full((1, 4), 2, np.int32)}, r"token_type_ids has values outside 0 to 1"),
        ({"pooling_mask": np.full((1, 4), 3, np.int32)}, r"pooling_mask has values outside 0 to 1"),
        ({"attention_mask": np.full((1, 4), 7, np.int32)}, r"attention_mask has values outside 0 to 1"),
        (
            {"attention_mask": np.ones((1, 5), np.int32)},
            r"attention_mask has shape \[1, 5\], input_ids \[1, 4\]",
        ),
        (ids([[5] * 65], 65), r"a row has 65 tokens; the network takes 64 at most"),
        (ids([[5] * 3], 128), r"the rows are 128 wide; they may be 127: 64 tokens"),
        (ids([[5] * 3], 500_000), r"the rows are 500000 wide; they may be 127"),
    ],
)
def test_ids_that_the_network_has_no_vectors_for_are_refused(grpc_client, change, match):
    inputs = ids([[5, 6, 7, 8]], 4) | change
    with refused(match):
        infer(grpc_client, "small_encoder", inputs, ["pooled"])


# pooling and ensembles


def test_a_dense_layer_follows_the_pooling_it_was_trained_with(ask, small_checkpoint):
    weights = load_file(small_checkpoint / "model.safetensors")
    dense = load_file(small_checkpoint / "2_Dense" / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(small_checkpoint / "tokenizer.json"))
    text = "the lazy dog jumped over"
    state = plain_bert.layers(weights, tokenizer.encode(PROMPTS["passage"] + text).ids, heads=4)[-1]
    cls = np.tanh(state[0] @ dense["linear.weight"].T + dense["linear.bias"])
    np.testing.assert_allclose(ask("small", "EMBEDDING", [text])[0], cls / np.linalg.norm(cls), atol=1e-5)
    max_pooled = ask("small", "EMBEDDING", [text], pooling="max", normalize=False)
    np.testing.assert_allclose(max_pooled[0], state.max(0), atol=1e-5)


def test_layers_are_concatenated(ask, texts):
    weights = load_file(reference.checkpoint() / "model.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(reference.checkpoint())
    text = texts[20]
    states = plain_bert.layers(weights, tokenizer(text)["input_ids"], heads=12)
    expected = np.concatenate([states[-2], states[0]], axis=1)
    np.testing.assert_allclose(ask("layers_tokens", "TOKEN_EMBEDDING", [text])[0], expected, atol=1e-4)
    mean = ask("layers", "EMBEDDING", [text], normalize=False)
    np.testing.assert_allclose(mean[0], expected.mean(0), atol=1e-4)


def test_mask_cls_sep_reaches_attention_and_pooling(ask):
    weights = load_file(reference.checkpoint() / "model.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(reference.checkpoint())
    text = "First do it, then do it right."
    row = tokenizer(text)["input_ids"]
    attended = [0] + [1] * (len(row) - 2) + [0]
    state = plain_bert.layers(weights, row, heads=12, attended=attended)[-1]
    found = ask("bert", "EMBEDDING", [text], mask_cls_sep=True, normalize=False)
    np.testing.assert_allclose(found[0], state[1:-1].mean(0), atol=1e-4)


def test_unlike_lengths_run_in_one_execution(grpc_client, ask, texts, expected):
    def counts() -> tuple[int, int]:
        stats = grpc_client.get_inference_statistics("bert_encoder").model_stats[0]
        return stats.inference_count, stats.execution_count

    rows, executions = settled(counts)  # Triton answers a request, then counts it
    barrier = threading.Barrier(16)

    def client(number: int) -> None:
        barrier.wait()
        for index in range(number, 160, 16):
            found = ask("bert", "EMBEDDING", [texts[index]])
            np.testing.assert_allclose(found[0], expected["sentence"][index], rtol=0, atol=1e-5)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(client, range(16)))
    rows_now, executions_now = settled(counts)
    assert rows_now - rows == 160
    assert executions_now - executions < 80  # 160 texts of unlike lengths, at least two together on average
    batches = {b.batch_size for b in grpc_client.get_inference_statistics("bert_encoder").model_stats[0].batch_stats}
    assert max(batches) > 4


def test_metrics_count_tokens_truncations_and_padding_avoided(server, ask):
    def metrics() -> dict[str, float]:
        with urllib.request.urlopen(server.metrics_url) as reply:
            lines = reply.read().decode().splitlines()
        found = (re.fullmatch(r'(bert_\w+_total)\{model="bert"\} (\d+)', line) for line in lines)
        return {match[1]: float(match[2]) for match in found if match}

    before = settled(metrics)
    ask("bert", "EMBEDDING", ["word", "word " * 300, "two words"])
    wait_for(lambda: metrics()["bert_tokens_total"] > before["bert_tokens_total"])
    gained = {name: value - before.get(name, 0) for name, value in settled(metrics).items()}
    assert gained == {
        "bert_tokens_total": 3 + 256 + 4,
        "bert_padded_tokens_total": 3 * 256,
        "bert_truncated_texts_total": 1,
        "bert_refused_texts_total": 0,
        "bert_not_finite_texts_total": 0,
        "bert_step_failures_total": 0,
        "bert_cache_hit_texts_total": 0,
        "bert_cache_miss_texts_total": 0,
    }


def test_equal_texts_of_a_batch_are_computed_once(server, ask, texts, expected):
    def computed() -> float:
        with urllib.request.urlopen(server.metrics_url) as reply:
            return float(re.search(r'^bert_tokens_total\{model="bert"\} (\d+)$', reply.read().decode(), re.M)[1])

    def gained(since: float) -> float:
        wait_for(lambda: computed() > since)
        return settled(computed) - since

    before = settled(computed)
    ask("bert", "EMBEDDING", texts[:2])
    two = gained(before)
    found = ask("bert", "EMBEDDING", [texts[0], texts[1], *[texts[0]] * 10, *[texts[1]] * 10])
    many = gained(before + two)
    assert many <= 2 * two  # two slices at most; one by one they would be 11 times as many
    np.testing.assert_allclose(found[[0, *range(2, 12)]], np.tile(expected["sentence"][0], (11, 1)), atol=1e-5)
    np.testing.assert_allclose(found[[1, *range(12, 22)]], np.tile(expected["sentence"][1], (11, 1)), atol=1e-5)


def test_curl_can_send_text_and_parameters_as_json(server, texts, expected):
    def post(body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(f"{server.http_url}/v2/models/bert/infer", json.dumps(body).encode())
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    inputs = [{"name": "TEXT", "shape": [2, 1], "datatype": "BYTES", "data": texts[:2]}]
    outputs = {output["name"]: output for output in post({"inputs": inputs})["outputs"]}
    assert outputs["EMBEDDING"]["shape"] == [2, 384]
    found = np.array(outputs["EMBEDDING"]["data"], np.float32).reshape(2, 384)
    np.testing.assert_allclose(found, expected["sentence"][:2], rtol=0, atol=1e-5)
    parameters = {"pooling": "cls", "normalize": False, "max_seq_len": 3}
    assert post({"inputs": inputs, "parameters": parameters})["outputs"]
    with pytest.raises(urllib.error.HTTPError) as error:
        post({"inputs": inputs, "parameters": {"pooling": "median"}})
    assert error.value.code == 400 and "this model takes mean" in json.load(error.value)["error"]
