"""mteb's own wrappers ask the gateway, on small tasks of one's own."""

from __future__ import annotations

import mteb
import numpy as np
import pytest
from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import OpenAIAPIEncodeWrapper
from mteb.models.openai_wrappers import OpenAIAPITokenEmbedWrapper
from scipy.stats import pearsonr, spearmanr

from client_sdk import Client, LocalServer, maxsim
from tests.support.servers.gateways import RunningGateway

PAIRS = [
    ("A man is playing a guitar.", "Somebody plays the guitar.", 4.6),
    ("A man is playing a guitar.", "The stock market fell today.", 0.1),
    ("The cat sits on the mat.", "A kitten rests on a rug.", 3.9),
    ("The cat sits on the mat.", "A dog runs in the park.", 1.2),
    ("First do it, then do it right.", "Do it first and correctly later.", 4.1),
    ("It rains.", "The weather is wet.", 3.4),
]


def described(name: str, kind: str, score: str) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        description="A few texts.",
        type=kind,
        dataset={"path": "none", "revision": "1"},
        eval_langs=["eng-Latn"],
        main_score=score,
    )


class Alike(AbsTaskSTS):
    """How alike the sentences of a pair are."""

    metadata = described("Alike", "STS", "cosine_spearman")

    def load_data(self, **_: object) -> None:
        columns = dict(zip(("sentence1", "sentence2", "score"), map(list, zip(*PAIRS, strict=True)), strict=True))
        self.dataset = {"test": Dataset.from_dict(columns)}
        self.data_loaded = True


class Found(AbsTaskRetrieval):
    """The second sentence of each pair, by its first."""

    metadata = described("Found", "Retrieval", "mrr_at_10")

    def load_data(self, **_: object) -> None:
        queries, documents, _ = zip(*PAIRS, strict=True)
        ids = [str(index) for index in range(len(PAIRS))]
        split = {
            "corpus": Dataset.from_dict({"id": ids, "text": documents}),
            "queries": Dataset.from_dict({"id": ids, "text": queries}),
            "relevant_docs": {one: {one: 1} for one in ids},
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


def scores_of(model: object, task: object) -> dict[str, float]:
    (result,) = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False).task_results
    return result.scores["test"][0]


def test_sentences_are_as_alike_as_by_the_client(gateway: RunningGateway, gateway_server: LocalServer):
    model = OpenAIAPIEncodeWrapper(gateway.url, "bert", use_chat_template=False, modalities=["text"])
    assert model.max_length == 256
    scores = scores_of(model, Alike())
    left, right, expected = zip(*PAIRS, strict=True)
    with Client(gateway_server.grpc_url) as bert:
        cosines = (bert.encode(left, normalize=True) * bert.encode(right, normalize=True)).sum(axis=1)
    assert scores["cosine_spearman"] == pytest.approx(spearmanr(expected, cosines)[0])
    assert scores["cosine_pearson"] == pytest.approx(pearsonr(expected, cosines)[0], abs=1e-5)


def test_late_interaction_finds_what_the_client_finds(gateway: RunningGateway, gateway_server: LocalServer):
    model = OpenAIAPITokenEmbedWrapper(gateway.url, "colbert", use_chat_template=False, modalities=["text"])
    scores = scores_of(model, Found())
    queries, documents, _ = zip(*PAIRS, strict=True)
    with Client(gateway_server.grpc_url, "colbert") as colbert:
        fits = maxsim(colbert.encode_multi(queries), colbert.encode_multi(documents))
    places = [int((row > row[index]).sum()) + 1 for index, row in enumerate(fits)]
    assert scores["mrr_at_10"] == pytest.approx(np.mean([1 / place for place in places]), abs=1e-4)
