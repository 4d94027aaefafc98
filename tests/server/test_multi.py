"""Vectors of tokens on a real server, beside what sentence-transformers makes of the same folder.

With --live, that is MultiVectorEncoder; else ids by transformers' tokenizer, filled up here, a row at a time through
the network in its other layout, which test_token_vectors compares with torch.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton
from transformers import AutoTokenizer
from tritonclient.utils import InferenceServerException

from client_sdk import Client, LocalServer
from export.checkpoint import checkpoint
from export.network import network
from export.repository.family import ALL_ROLES
from tests.conftest import fill
from tests.support.checkpoints.architectures import VARIANTS
from tests.support.checkpoints.late_interaction import (
    BERT,
    DENSE,
    MARKED,
    MASK,
    NORMALIZE,
    TOKENS,
    dense,
    write,
    write_pylate,
    write_stanford,
)
from tests.support.servers.triton_requests import infer, refused
from tests.support.trained_tokenizers import SIZE, byte_level_bpe, unigram, write_trained

PUNCTUATION = list(string.punctuation)
TEXTS = [
    "the fox",
    "a",
    "hello, world! you?",
    "The quick brown fox jumped over the lazy dog.",
    " . ",
    "hello world " * 60,
]
OUTPUTS = ["TOKEN_EMBEDDING", "ATTENTION_MASK", "TOKEN_COUNT"]
INPUT_TYPES = ("query", "document", None)
TOLERANCE = 1e-5


class Said(NamedTuple):
    """What a family's files say, read here a second time; lengths by input_type."""

    prompts: dict[str, str]
    lengths: dict[str | None, int]
    filled: int = 0  # the length of queries, with what fills them up
    attend: bool = False
    skips: list[str] = []
    skip_types: tuple[str | None, ...] = ("document", None)


FAMILIES = {
    "bert": Said({"query": "the ", "document": "a "}, {"query": 20, "document": 12, None: 66}, 20, skips=PUNCTUATION),
    "bert_chain": Said({}, {"query": 9, "document": 66, None: 66}, skips=PUNCTUATION, skip_types=("query",)),
    "distilbert": Said({}, {"query": 40, "document": 30, None: 66}, 20, attend=True),
    "xlm-roberta": Said({}, {"query": 24, "document": 64, None: 64}, 24, skips=[".", "▁the"]),
    # So wide that a token of its end sees no other in layers with a window.
    "modernbert": Said({}, {"query": 50, "document": 50, None: 66}, 30, skips=PUNCTUATION),
    "pylate": Said(
        {"query": "[Q] ", "document": "fox "}, {"query": 16, "document": 24, None: 31}, 16, skips=PUNCTUATION
    ),
    "stanford": Said(
        {"query": "[unused0] ", "document": "[unused1] "},
        {"query": 12, "document": 18, None: 66},
        12,
        skips=PUNCTUATION,
    ),
}


def expansion(strategy: str, length: int, attend: bool = False) -> dict[str, Any]:
    return {"query_expansion": {"strategy": strategy, "length": length, "attend": attend}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("late")
    first, mask, last = (DENSE, {**dense(24), **TOKENS}), (MASK, {"skiplist_words": PUNCTUATION}), (NORMALIZE, TOKENS)
    prompts = {"prompts": FAMILIES["bert"].prompts}
    write(
        folder / "bert", BERT, first, mask, last, loading={**expansion("fixed", 20), "document_length": 12}, own=prompts
    )
    chain = (
        (DENSE, {**dense(24, 32, "activation.GELU", bias=True, use_residual=True), **TOKENS}),
        (MASK, {"skiplist_words": PUNCTUATION, "skiplist_tasks": ["query"]}),
        (DENSE, {**dense(32, 8, "activation.Tanh"), **TOKENS}),
    )
    write(folder / "bert_chain", BERT, *chain, loading={"query_length": 9})
    loading = {**expansion("min", 20, True), "query_length": 40, "document_length": 30}
    write(folder / "distilbert", {**VARIANTS["distilbert"], "vocab_size": len(MARKED)}, loading=loading)
    settings = {**VARIANTS["xlm-roberta"], "vocab_size": SIZE}
    words = (MASK, {"skiplist_words": [".", "▁the", "no such token"]})
    write(folder / "xlm-roberta", settings, first, words, last, loading=expansion("fixed", 24), tokenizer=False)
    write_trained(folder / "xlm-roberta", unigram(), of_class="XLMRobertaTokenizer")
    settings = {**VARIANTS["modernbert"], "vocab_size": SIZE}
    loading = {**expansion("min", 30), "query_length": 50, "document_length": 50}
    write(folder / "modernbert", settings, first, mask, last, loading=loading, tokenizer=False)
    write_trained(folder / "modernbert", byte_level_bpe(), of_class="RobertaTokenizer")
    own = {"query_prefix": "[Q] ", "document_prefix": "fox ", "query_length": 16, "document_length": 24}
    write_pylate(folder / "pylate", {"model_type": "ColBERT", **own})
    write_stanford(folder / "stanford", {"query_maxlen": 12, "doc_maxlen": 18})
    return folder


@pytest.fixture(scope="module")
def own_server(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    repository = tmp_path_factory.mktemp("repository")
    for name in FAMILIES:
        fill(repository, folders / name, name)
    with LocalServer(repository) as server:
        yield server


@pytest.fixture(scope="module")
def client(own_server: LocalServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(own_server.grpc_url.removeprefix("grpc://")) as client:
        yield client


def encoded(live: bool, folder: Path, name: str, input_type: str | None) -> list[np.ndarray]:
    """Of each of TEXTS, the vectors that count: [tokens, D]."""
    if live:
        from sentence_transformers import MultiVectorEncoder

        model = MultiVectorEncoder(str(folder), device="cpu")
        calls = {"query": model.encode_query, "document": model.encode_document, None: model.encode}
        return list(calls[input_type](TEXTS, convert_to_numpy=True))
    said, source = FAMILIES[name], checkpoint.load(str(folder))
    model = network.build(source.encoder, source.weights, is_padded=True, head=source.head)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if name == "stanford":
        tokenizer.add_special_tokens({"additional_special_tokens": [said.prompts[key][:-1] for key in said.prompts]})
    skipped = {tokenizer.convert_tokens_to_ids(word) for word in said.skips} - {tokenizer.unk_token_id}
    skipped = skipped if input_type in said.skip_types else set()
    found = []
    for text in TEXTS:
        text = said.prompts.get(input_type or "", "") + text
        ids = tokenizer(text, truncation=True, max_length=said.lengths[input_type]).input_ids
        more = max(0, said.filled - len(ids)) if input_type == "query" else 0
        attended = [1] * len(ids) + [int(said.attend)] * more
        ids += [tokenizer.mask_token_id] * more
        feed = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": [0] * len(ids)}
        feed["pooling_mask"] = attended
        (vectors,) = session.run(None, {key: np.array([row], np.int32) for key, row in feed.items()})
        found.append(vectors[0][[index not in skipped for index in ids]])
    return found


def asked(client: triton.InferenceServerClient, name: str, texts: list[str], **parameters: Any) -> Any:
    array = np.array([[text.encode()] for text in texts], object)
    return infer(client, f"{name}_multi", {"TEXT": array}, OUTPUTS, parameters)


def check(found: Any, expected: list[np.ndarray]) -> None:
    assert found["ATTENTION_MASK"].dtype == np.int32 and found["TOKEN_EMBEDDING"].dtype == np.float32
    for vectors, mask, row in zip(found["TOKEN_EMBEDDING"], found["ATTENTION_MASK"], expected, strict=True):
        np.testing.assert_allclose(vectors[mask == 1], row, rtol=0, atol=TOLERANCE)


def of_type(input_type: str | None) -> dict[str, str]:
    return {"input_type": input_type} if input_type else {}


@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_are_those_of_the_multi_vector_encoder(client, folders, live, name):
    for input_type in INPUT_TYPES:
        expected = encoded(live, folders / name, name, input_type)
        check(asked(client, name, TEXTS, **of_type(input_type)), expected)
        for text, row in zip(TEXTS, expected, strict=True):
            check(asked(client, name, [text], **of_type(input_type)), [row])


def test_queries_and_documents_that_share_a_batch_are_what_they_are_alone(client):
    requests = [(text, kind) for kind in INPUT_TYPES for text in TEXTS] * 4
    with ThreadPoolExecutor(16) as pool:
        found = [*pool.map(lambda request: asked(client, "bert", [request[0]], **of_type(request[1])), requests)]
    for (text, kind), together in zip(requests[:18], found, strict=False):
        alone = asked(client, "bert", [text], **of_type(kind))
        np.testing.assert_array_equal(together["ATTENTION_MASK"], alone["ATTENTION_MASK"])
        np.testing.assert_allclose(together["TOKEN_EMBEDDING"], alone["TOKEN_EMBEDDING"], rtol=0, atol=TOLERANCE)


def test_tokens_of_the_whole_text_are_counted_and_what_fills_it_up_is_not(client):
    found = asked(client, "bert", [TEXTS[1], TEXTS[-1]], input_type="query")
    assert found["TOKEN_COUNT"].tolist() == [[4], [123]] and found["ATTENTION_MASK"].tolist() == [[1] * 20] * 2


def test_a_text_that_may_not_be_cut_is_refused_at_the_length_of_its_type(client):
    for input_type, limit in (("query", 20), ("document", 12), (None, 66)):
        with refused(f"text 0: 12. tokens, more than max_seq_len {limit}"):
            asked(client, "bert", [TEXTS[-1]], truncate=False, **of_type(input_type))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pooling": "cls"}, "parameter pooling is not for this model, which gives a vector for each token"),
        ({"normalize": True}, "parameter normalize is not for this model"),
        ({"max_active_dims": 3}, "parameter max_active_dims is not for this model"),
        ({"input_type": "passage"}, "parameter input_type is 'passage'; it takes query or document"),
        ({"input_type": "query", "max_seq_len": 21}, "parameter max_seq_len is 21; it takes 20 to 20, .* for queries"),
        ({"max_seq_len": 67}, "parameter max_seq_len is 67; it takes 3 to 66"),
        ({"input_type": "query", "is_tokenized": True}, "parameter is_tokenized goes without a prompt"),
    ],
)
def test_what_has_no_meaning_for_the_family_is_refused(client, parameters, message):
    with refused(message):
        asked(client, "bert", TEXTS[:1], **parameters)


def test_a_pair_is_refused(client):
    with pytest.raises(InferenceServerException, match="unexpected shape for input 'TEXT'"):
        infer(client, "bert_multi", {"TEXT": np.array([[b"a", b"b"]], object)}, OUTPUTS)


def test_the_family_has_no_other_ensemble(own_server, client):
    ready = [role for role in ALL_ROLES if client.is_model_ready(f"stanford{role}")]
    assert ready == ["_multi", "_tokenizer", "_encoder", "_pooling"]
    with Client(own_server.grpc_url, model="stanford") as family:
        assert family.count_tokens("the fox") == 4
