"""Classifiers and cross-encoders on a real server, beside what sentence-transformers and transformers make of them.

With --live, those are CrossEncoder and the text-classification pipeline of the same folder; else ids by transformers'
tokenizer through the network in its other layout (which test_classifiers compares with transformers' classes), and
plain float64 behind it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from transformers import AutoTokenizer

from client_sdk import AsyncClient, Client, InvalidArgument, LocalServer
from client_sdk._commands.main import main
from export.checkpoint import checkpoint
from export.network import network
from export.network.batches import padded
from tests.conftest import fill
from tests.support.checkpoints.architectures import CLASSIFIERS, read, write_classifier
from tests.support.checkpoints.folders import VOCABULARY, write_json, write_modules, write_tokenizer
from tests.support.trained_tokenizers import SIZE, byte_level_bpe, unigram, write_trained

ONE = {"id2label": {"0": "fits"}}
FAMILIES = {
    "bert": ("bert", "BertForSequenceClassification", "bert."),
    "xlm-roberta": ("xlm-roberta", "XLMRobertaForSequenceClassification", "roberta."),
    "modernbert": ("modernbert", "ModernBertForSequenceClassification", "model."),
    "deberta-v2": ("deberta-v2", "DebertaV2ForSequenceClassification", "deberta."),
    "several": ("bert", "BertForSequenceClassification", "bert."),
    "labels": ("distilbert", "DistilBertForSequenceClassification", "distilbert."),
}
"""The settings, transformers' class and the prefix of its weights. `labels` is a plain checkpoint of transformers, the
others are cross-encoders, of one label but for `several`."""
RERANKERS = [name for name in FAMILIES if name not in ("several", "labels")]
CROSS_ENCODERS = [*RERANKERS, "several"]
PAIRS = [
    ("where is the fox?", "The quick brown fox jumped over the lazy dog."),
    ("a", "b"),
    ("Hello, WORLD!", "hello world " * 60),  # cut
    ("the query is long " * 30, "the fox"),
    ("cafe #1", "the dog"),
]
QUERY = "where is the fox?"
DOCUMENTS = [f"the {what} is {where}" for what in ("fox", "dog", "lazy fox") for where in ("here", "quick and " * 9)]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifiers")
    for name, (kind, of_class, prefix) in FAMILIES.items():
        settings = {**CLASSIFIERS[kind], **(ONE if name in RERANKERS else {}), "architectures": [of_class]}
        is_plain = kind.endswith("bert") and kind != "modernbert"
        write_classifier(folder / name, {**settings, "vocab_size": len(VOCABULARY) if is_plain else SIZE}, prefix)
        if is_plain:
            write_tokenizer(folder / name, VOCABULARY)
        elif kind == "modernbert":
            write_trained(folder / name, byte_level_bpe(), of_class="RobertaTokenizer")
        else:
            write_trained(folder / name, unigram(), of_class="XLMRobertaTokenizer")
        if name in CROSS_ENCODERS:
            # Past the last position sentence-transformers fails, where a family cuts.
            write_modules(folder / name, settings={**LOADED, "max_seq_length": read(settings).max_positions})
            write_json(folder / name / "config_sentence_transformers.json", {"model_type": "CrossEncoder"})
    return folder


LOADED = {
    "transformer_task": "sequence-classification",
    "module_output_name": "scores",
    "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
}


@pytest.fixture(scope="module")
def own_server(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    repository = tmp_path_factory.mktemp("repository")
    for name in FAMILIES:
        fill(repository, folders / name, name)
    with LocalServer(repository) as server:
        yield server


def logits(folder: Path, texts: list[Any]) -> np.ndarray:
    """[N, L], by the network in padded rows."""
    source = checkpoint.load(str(folder))
    model = network.build(source.encoder, source.weights, is_padded=True, head=source.head)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sides = list(zip(*texts, strict=True)) if isinstance(texts[0], tuple) else [texts]
    encodings = tokenizer(*map(list, sides), truncation=True, max_length=source.defaults.max_seq_len).encodings
    return session.run(None, padded(encodings))[0].astype(np.float64)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def predicted(live: bool, folder: Path, pairs: list[tuple[str, str]]) -> np.ndarray:
    """CrossEncoder.predict."""
    if live:
        from sentence_transformers import CrossEncoder

        return CrossEncoder(str(folder), device="cpu").predict(pairs)
    found = logits(folder, pairs)
    return sigmoid(found[:, 0]) if found.shape[1] == 1 else found


def classified(live: bool, folder: Path, text: str) -> list[tuple[str, float]]:
    """transformers' text-classification pipeline."""
    if live:
        from transformers import pipeline

        found = pipeline("text-classification", str(folder), top_k=None)(text)
        return [(one["label"], one["score"]) for one in (found[0] if isinstance(found[0], list) else found)]
    (row,) = logits(folder, [text])
    powers = np.exp(row - row.max())
    names = CLASSIFIERS["distilbert"]["id2label"].values()
    return sorted(zip(names, powers / powers.sum(), strict=True), key=lambda one: -one[1])


@pytest.mark.parametrize("name", CROSS_ENCODERS)
def test_scores_are_those_of_the_cross_encoder(own_server, folders, live, name):
    expected = predicted(live, folders / name, PAIRS)
    for url in (own_server.grpc_url, own_server.http_url):
        with Client(url, model=name) as client:
            found = client.score(PAIRS)
            assert found.dtype == np.float32 and found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
            np.testing.assert_allclose(client.score(iter(PAIRS), batch_size=2), expected, rtol=0, atol=TOLERANCE)
            np.testing.assert_allclose(client.score(PAIRS[2]), expected[2], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", RERANKERS)
def test_documents_are_ranked_as_the_cross_encoder_scores_them(own_server, folders, live, name):
    scores = predicted(live, folders / name, [(QUERY, document) for document in DOCUMENTS])

    async def documents() -> AsyncIterator[str]:
        for document in DOCUMENTS:
            yield document

    async def asked() -> list[Any]:
        async with AsyncClient(own_server.grpc_url, model=name) as client:
            assert await client.score(PAIRS[0]) == pytest.approx(await client.score(PAIRS[:1]))
            return [await client.rerank(QUERY, given, top_k=4) for given in (DOCUMENTS, documents())]

    with Client(own_server.grpc_url, model=name) as client:
        found = client.rerank(QUERY, DOCUMENTS)
        best = client.rerank(QUERY, iter(DOCUMENTS), top_k=4)
    assert sorted(one.index for one in found) == [*range(len(DOCUMENTS))]
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        assert one.document == DOCUMENTS[one.index] and one.score == pytest.approx(scores[one.index], abs=TOLERANCE)
    for other in (best, *asyncio.run(asked())):
        assert [one.score for one in other] == pytest.approx([one.score for one in found[:4]], abs=TOLERANCE)
        assert all(one.document == DOCUMENTS[one.index] for one in other)


def test_labels_are_those_of_the_pipeline(own_server, folders, live):
    with Client(own_server.grpc_url, model="labels") as client:
        every = client.classify(DOCUMENTS)
        assert client.classify(DOCUMENTS[:3], top_k=1) == [[labels[0]] for labels in every[:3]]
        single = client.classify(DOCUMENTS[0], top_k=2)
        pairs = client.classify(PAIRS)
    for text, labels in zip(DOCUMENTS, every, strict=True):
        expected = dict(classified(live, folders / "labels", text))
        assert {label.name: label.score for label in labels} == pytest.approx(expected, abs=TOLERANCE)
        assert [label.score for label in labels] == sorted((label.score for label in labels), reverse=True)
    assert [label.name for label in single] == [label.name for label in every[0][:2]]
    assert sum(label.score for label in pairs[0]) == pytest.approx(1, abs=1e-6)

    async def asked() -> list[Any]:
        async with AsyncClient(own_server.grpc_url, model="labels") as client:
            return [await client.classify(DOCUMENTS[0], top_k=2), (await client.classify(DOCUMENTS[:1]))[0][:2]]

    for found in asyncio.run(asked()):
        assert [label.name for label in found] == [label.name for label in single]


def test_a_request_may_choose_the_activation(own_server, folders):
    exact = logits(folders / "bert", PAIRS)[:, 0]
    with Client(own_server.grpc_url, model="bert") as client:
        np.testing.assert_allclose(client.score(PAIRS, activation="none"), exact, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(client.score(PAIRS, activation="softmax"), 1, rtol=0, atol=TOLERANCE)
    with Client(own_server.grpc_url, model="several") as client:
        several = logits(folders / "several", PAIRS)
        found = client.score(PAIRS, activation="sigmoid")
        np.testing.assert_allclose(found, sigmoid(several), rtol=0, atol=TOLERANCE)


def test_options_of_a_call_reach_the_tokenizer(own_server):
    with Client(own_server.grpc_url, model="bert") as client:
        cut = client.score([(QUERY, "the fox " * 60)], max_seq_len=20)
        np.testing.assert_array_equal(cut, client.score([(QUERY, "the fox " * 30)], max_seq_len=20))
        prompted = client.score([("the dog", "a")], prompt="where is ")
        np.testing.assert_array_equal(prompted, client.score([("where is the dog", "a")]))
        with pytest.raises(InvalidArgument, match="text 0.*tokens"):
            client.score([(QUERY, "the fox " * 200)], truncate=False)


def test_a_classifier_says_what_it_is(own_server):
    with Client(own_server.grpc_url, model="several") as client:
        info = client.info()
        assert info.labels == ("against", "neutral", "for") and info.activation == "none"
        assert (info.dimension, info.pooling, info.layers, info.similarity) == (0, "", (), "")
        assert info.max_seq_len == 66 and info.identity and client.is_ready()
        assert client.count_tokens(["the fox"]).shape == (1,)


@pytest.mark.parametrize("texts", ["the fox", ["the fox", "the dog"]])
def test_a_classifier_asked_for_vectors_says_what_it_gives(own_server, texts):
    for url in (own_server.grpc_url, own_server.http_url):
        with Client(url, model="bert") as client:
            with pytest.raises(
                InvalidArgument, match="'bert' at .* gives scores .score, rerank, classify., not vectors"
            ):
                client.encode(texts)
            with pytest.raises(
                InvalidArgument, match="'bert' at .* gives scores .score, rerank, classify., and nothing else"
            ):
                client.encode_tokens(texts)


def test_a_family_of_vectors_asked_for_scores_says_what_it_gives(server):
    for url in (server.grpc_url, server.http_url):
        with Client(url) as client:
            for ask in (
                lambda: client.score(PAIRS),
                lambda: client.score(PAIRS[0]),
                lambda: client.rerank(QUERY, DOCUMENTS),
            ):
                with pytest.raises(InvalidArgument, match="'bert' at .* gives vectors .encode, encode_tokens., not"):
                    ask()
            with pytest.raises(
                InvalidArgument, match="'bert' gives vectors .encode, encode_tokens., not scores of labels"
            ):
                client.classify(DOCUMENTS)


def test_several_labels_rank_nothing(own_server):
    with (
        Client(own_server.grpc_url, model="several") as client,
        pytest.raises(InvalidArgument, match="gives 3 scores a pair"),
    ):
        client.rerank(QUERY, DOCUMENTS)


def test_a_health_check_of_a_classifier_gets_its_scores(own_server, capsys):
    for url in (own_server.grpc_url, own_server.http_url):
        assert main(["health", "--url", url, "--model", "several"]) == 0
        assert "gave scores of 3 labels in" in capsys.readouterr().out


@pytest.fixture(params=["grpc_url", "http_url"])
def command(
    request: pytest.FixtureRequest, own_server: LocalServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def command(*arguments: object, lines: list[str]) -> list[Any]:
        """The objects that a command writes to standard output."""
        (tmp_path / "lines.txt").write_text("\n".join(lines))
        url = getattr(own_server, request.param)
        assert main([*map(str, arguments), str(tmp_path / "lines.txt"), "--url", url]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return command


def test_the_command_line_reranks_as_the_client(own_server, command, tmp_path):
    documents = [f"{document} number {number}" for number in range(400) for document in DOCUMENTS]
    with Client(own_server.grpc_url, model="bert") as client:
        scores = client.score([(QUERY, document) for document in documents])
    found = command("rerank", QUERY, "--model", "bert", "--top-k", 10, lines=documents)
    assert [one["score"] for one in found] == pytest.approx(sorted(scores, reverse=True)[:10], abs=TOLERANCE)
    for one in found:
        assert one["document"] == documents[one["index"]]
        assert one["score"] == pytest.approx(scores[one["index"]], abs=TOLERANCE)
    assert len(command("rerank", QUERY, "--model", "bert", lines=documents)) == len(documents)
    output = tmp_path / "ranked.jsonl"
    options = ["--activation", "none", "--max-seq-len", 12, "--prompt", "so: "]
    assert command("rerank", QUERY, "--model", "bert", *options, "-o", output, lines=DOCUMENTS) == []
    with Client(own_server.grpc_url, model="bert") as client:
        expected = client.rerank(QUERY, DOCUMENTS, activation="none", max_seq_len=12, prompt="so: ")
    written = [json.loads(line)["score"] for line in output.read_text().splitlines()]
    assert written == pytest.approx([one.score for one in expected], abs=TOLERANCE)


def test_the_command_line_classifies_as_the_client(own_server, command):
    texts = [f"{document} number {number}" for number in range(400) for document in DOCUMENTS]
    with Client(own_server.grpc_url, model="labels") as client:
        for options, given in (([], texts), (["--pairs"], PAIRS)):
            lines = ["\t".join(text) if isinstance(text, tuple) else text for text in given]
            found = command("classify", "--model", "labels", "--top-k", 2, *options, lines=lines)
            assert [one["text"] for one in found] == [list(one) if options else one for one in given]
            for one, labels in zip(found, client.classify(given), strict=True):
                scores = {label.name: label.score for label in labels}
                assert [label["score"] for label in one["labels"]] == pytest.approx(
                    [label.score for label in labels[:2]], abs=TOLERANCE
                )
                for label in one["labels"]:
                    assert label["score"] == pytest.approx(scores[label["name"]], abs=TOLERANCE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "--model", "bert"], "gives scores (score, rerank, classify), not vectors"),
        (["rerank", "q", "--model", "several"], "the model gives 3 scores a pair"),
    ],
)
def test_a_command_that_a_classifier_cannot_serve_is_wrong(own_server, tmp_path, capsys, arguments, message):
    (tmp_path / "texts.txt").write_text("the fox\nthe dog\n")
    for url in (own_server.grpc_url, own_server.http_url):
        assert main([*arguments, "--url", url, str(tmp_path / "texts.txt")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and message in line


@pytest.mark.parametrize("arguments", [["rerank", "q"], ["classify"]])
def test_a_command_for_scores_that_a_family_of_vectors_cannot_serve_is_wrong(server, tmp_path, capsys, arguments):
    (tmp_path / "texts.txt").write_text("the fox\nthe dog\n")
    for url in (server.grpc_url, server.http_url):
        assert main([*arguments, "--url", url, str(tmp_path / "texts.txt")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and "gives vectors" in line
    assert main([*arguments, "--url", url, "--model", "nope", str(tmp_path / "texts.txt")]) == 1
    assert capsys.readouterr().err.startswith("error: there is no model 'nope'")
