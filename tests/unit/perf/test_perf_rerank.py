"""Ranking beside others: what is ranked, what comes back, and what is made of the figures."""

import json
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer

from export.checkpoint import checkpoint
from perf.__main__ import main
from perf.compare.checkpoints import write_cross_encoder
from perf.compare.systems.system import Model
from perf.rerank import command, cross_encoder, infinity
from perf.rerank.command import SYSTEMS, against
from perf.rerank.documents import MAX_TOKENS, alike, parts, unlike
from perf.texts import token_counts
from tests.support.reference import checkpoint as minilm

PAIRS = [["a query", "one"], ["a query", "two"], ["a query", "three"]]


def test_documents_alike_have_the_mean_length_of_those_unlike():
    tokenizer = Tokenizer.from_file(str(minilm() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    documents = unlike(tokenizer, 120)
    lengths = token_counts(documents, tokenizer)
    assert len(set(documents)) == 120 and max(lengths) == MAX_TOKENS > 10 * min(lengths)
    same = alike(tokenizer, documents)
    assert set(token_counts(same, tokenizer)) == {round(np.mean(lengths))} and len(same) == 120


def test_a_call_is_one_query_with_its_documents():
    assert parts(PAIRS) == ("a query", ["one", "two", "three"])
    body = json.loads(infinity.Client({"port": 1}).prepare(PAIRS))
    assert body == {"model": "model", "query": "a query", "documents": ["one", "two", "three"]}


def test_scores_are_in_the_order_of_the_documents_whatever_the_ranking():
    ranked = [(2, 0.75), (0, 0.5), (1, 0.25)]
    theirs = cross_encoder.Client.__new__(cross_encoder.Client)
    found = theirs.vectors([{"corpus_id": place, "score": np.float32(score)} for place, score in ranked])
    answer = json.dumps({"results": [{"index": place, "relevance_score": score} for place, score in ranked]})
    for scores in (found, infinity.Client({"port": 1}).vectors(answer.encode())):
        assert scores.dtype == np.float32 and scores.tolist() == [0.5, 0.25, 0.75]


def test_the_checkpoint_is_a_cross_encoder_of_one_label(tmp_path):
    write_cross_encoder(tmp_path / "checkpoint")
    source = checkpoint.load(str(tmp_path / "checkpoint"))
    assert (source.encoder.hidden_size, len(source.encoder.layers), source.head.labels) == (384, 6, ("fits",))


def test_ratios_are_those_within_a_round():
    ours = {"unlike": [20.0, 30.0, 9.0], "alike": [10.0, 10.0, 10.0], "p50": [5.0, 5.0, 5.0]}
    other = {"unlike": [10.0, 10.0, 9.0], "alike": [5.0, 5.0, 5.0], "p50": [10.0, 20.0, 15.0]}
    assert against({"ours": ours, "x": other}, "ours", {"x": "X"}) == [["X", 2.0, 2.0, 3.0]]
    assert against({"x": other}, "ours", {"x": "X"}) == []


def test_ctrl_c_in_the_first_round_ends_it_with_nothing_written(tmp_path, monkeypatch, capsys):
    tokenizer = tmp_path / "models" / "bert_tokenizer" / "1"
    tokenizer.mkdir(parents=True)
    shutil.copy(minilm() / "tokenizer.json", tokenizer)
    reference = SimpleNamespace(environments=(SimpleNamespace(require=lambda: None),))

    @contextmanager
    def running(peer, model):
        if peer is not reference:
            raise KeyboardInterrupt
        yield SimpleNamespace(vectors=lambda pairs, in_call, clients: np.zeros(len(pairs), np.float32))

    monkeypatch.setattr(command, "REFERENCE", reference)
    monkeypatch.setattr(command, "running", running)
    model = Model("cross-encoder", tmp_path, tmp_path / "models", "bert", tmp_path)
    monkeypatch.setattr(command.checkpoints, "cross_encoder", lambda: model)
    output = tmp_path / "output"
    assert main(["rerank", "--systems", "ours", "--documents", "100", "--output", str(output)]) == 0
    assert "round 1, bert-on-triton" in capsys.readouterr().out and not [*output.iterdir()]


def test_too_few_documents_are_named(capsys):
    assert main(["rerank", "--documents", "99"]) == 1
    assert "--documents 99: at least 100" in capsys.readouterr().err


@pytest.mark.parametrize("peer", SYSTEMS, ids=lambda peer: peer.name)
def test_each_system_has_a_client_of_its_own_module(peer):
    assert type(peer).__module__.startswith("perf.rerank.")
