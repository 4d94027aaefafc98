"""Each script of examples/, run as a user runs it: what it prints is what it says it shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from scipy.spatial import distance

from client_sdk import Client, LocalServer, maxsim
from examples import searched_stores
from examples.async_stream import BATCH, CLIENTS, PACKAGES, WAITING
from examples.contextual_tokens import SENTENCES
from examples.docstrings import first_paragraphs, labelled_paragraphs
from examples.faq_search import PAGES, QUESTIONS, read_faq
from examples.reranked_search import BEST, CANDIDATES
from tests.support.patience import PATIENCE
from tests.support.places import ROOT
from tests.support.servers.postgresql import running_postgresql

NOT_TUTORIALS = {"demo", "docstrings"}
TUTORIALS = sorted({path.stem for path in (ROOT / "examples").glob("*.py")} - NOT_TUTORIALS)


@pytest.fixture
def run(server: LocalServer):
    def run(name: str, *arguments: str, on: LocalServer = server) -> str:
        finished = subprocess.run(
            [sys.executable, "-m", f"examples.{name}", *arguments],
            env={**os.environ, "CLIENT_SDK_URL": on.grpc_url, "CLIENT_SDK_MODEL": "bert"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10 * PATIENCE,
        )
        assert finished.returncode == 0, finished.stderr
        assert "Warning" not in finished.stderr
        return finished.stdout

    return run


def percentages(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"([\d.]+)%", text)]


def heading_of(phrase: str) -> str:
    """The heading above a phrase, which one page has, and once."""
    (page,) = (text for text in (path.read_text(encoding="utf-8") for path in PAGES) if phrase in text)
    assert page.count(phrase) == 1
    return re.findall(r"^#+ (.*)", page[: page.index(phrase)], re.MULTILINE)[-1]


def test_every_example_is_short_and_listed_and_tested():
    listed = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    tested = Path(__file__).read_text(encoding="utf-8")
    assert len(TUTORIALS) == 15
    for name in TUTORIALS:
        assert len((ROOT / f"examples/{name}.py").read_text(encoding="utf-8").splitlines()) < 60, name
        assert f"`{name}`" in listed and f'run("{name}"' in tested, name


def test_faq_search_finds_the_paragraph_that_answers(run):
    best = re.findall(r"\n(\S.*\?)\n  [\d.]+  \[(.+?)\] (.*)", run("faq_search"))
    answers = {question: (heading, text) for question, heading, text in best}
    for question, phrase in (
        ("Do users have to log in with a password?", "Nobody is asked for a password"),
        ("How many requests may wait for their turn?", "wait in a queue for their turn"),
    ):
        heading, text = answers[question]
        assert phrase in text and heading == heading_of(phrase)
    assert answers["How is padding avoided?"][0] == "How it works"


def test_faq_search_answers_a_question_of_ones_own(run):
    assert re.search(r"\n  [\d.]+  \[Export your own model\]", run("faq_search", "How do I export my own checkpoint?"))


def test_reranked_search_puts_those_first_that_the_cross_encoder_scores_highest(run, kinds_server):
    out = run("reranked_search", on=kinds_server)
    found = re.findall(r"\n(\S.*)\n((?:  .*\n)+)", out)
    assert [question for question, _ in found] == QUESTIONS
    entries = [f"{heading}: {text}" for heading, text in read_faq()]
    with Client(kinds_server.grpc_url) as client, Client(kinds_server.grpc_url, "reranker") as reranker:
        vectors = client.encode(entries)
        for question, rows in found:
            order = (vectors @ client.encode(question)).argsort()[::-1][:CANDIDATES]
            scores = reranker.score([(question, entries[index]) for index in order])
            printed = re.findall(r"  ([\d.]+), (\d+)\. by vectors: (.*)", rows)
            assert [float(score) for score, _, _ in printed] == pytest.approx(
                sorted(scores)[: -BEST - 1 : -1], abs=1e-3
            )
            for score, place, document in printed:
                assert document and any(entry.startswith(document) for entry in entries)
                assert float(score) == pytest.approx(scores[int(place) - 1], abs=1e-3)


def test_hybrid_search_joins_the_ranks_of_dense_and_sparse_vectors(run, kinds_server):
    out = run("hybrid_search", on=kinds_server)
    found = re.findall(r"\n(\S.*)\n((?:  .*\n)+)", out)
    assert [question for question, _ in found] == QUESTIONS
    entries = [f"{heading}: {text}" for heading, text in read_faq()]
    with Client(kinds_server.grpc_url) as dense, Client(kinds_server.grpc_url, "splade") as sparse:
        vectors, words = dense.encode(entries), sparse.encode_sparse(entries).to_scipy().toarray()
        for question, rows in found:
            similarities = (
                vectors @ dense.encode(question),
                words @ sparse.encode_sparse([question]).to_scipy().toarray()[0],
            )
            orders = [(-similarity).argsort(kind="stable").tolist() for similarity in similarities]
            fused = {place: sum(1 / (61 + order.index(place)) for order in orders) for place in range(len(entries))}
            best = sorted(fused.values(), reverse=True)[:3]
            printed = re.findall(r"  ([\d.]+), (\d+)\. and (\d+)\.: (.*)", rows)
            assert [float(score) for score, *_ in printed] == pytest.approx(best, abs=2e-4)
            for score, one, other, entry in printed:
                assert float(score) == pytest.approx(1 / (60 + int(one)) + 1 / (60 + int(other)), abs=1e-4)
                assert entry and any(known.startswith(entry) for known in entries)


def test_colbert_search_ranks_entries_by_what_the_tokens_of_a_question_find(run, kinds_server):
    out = run("colbert_search", on=kinds_server)
    found = re.findall(r"\n(\S.*)\n((?:  .*\n)+)", out)
    assert [question for question, _ in found] == QUESTIONS
    entries = [f"{heading}: {text}" for heading, text in read_faq()]
    with Client(kinds_server.grpc_url, "colbert") as client:
        documents = client.encode_multi(entries, input_type="document")
        assert out.startswith(f"{len(entries)} entries are {sum(map(len, documents)):,} vectors, ")
        for question, rows in found:
            scores = maxsim(client.encode_multi(question, input_type="query"), documents)
            printed = re.findall(r"^  ([\d.]+) = [-\d. ]+: (.*)", rows, re.MULTILINE)
            best = (-scores).argsort(kind="stable")[:3]
            assert [float(score) for score, _ in printed] == pytest.approx(scores[best].tolist(), abs=2e-3)
            assert all(any(known.startswith(entry) for known in entries) for _, entry in printed)


def test_classification_by_a_served_classifier_finds_the_package(run):
    from examples import classification  # here: it imports scikit-learn, for which every collection would wait

    out = run("classification")
    assert percentages(out)[0] > 78  # the largest of the three packages is 41 % of them
    rows = re.findall(r"^  (\w+) [\d.]+, \w+ [\d.]+: (.*)", out, re.MULTILINE)
    assert rows == list(zip(classification.PACKAGES, classification.TEXTS, strict=True))


def test_contextual_tokens_are_nearest_to_the_same_meaning(run, server):
    out = run("contextual_tokens")
    pairs = re.findall(r"^  (\w+) (\d)  .*-> (\w+) (\d)", out, re.MULTILINE)
    assert len(pairs) == 9 and all(own != nearest for _, own, _, nearest in pairs)
    assert sum(meaning == nearest for meaning, _, nearest, _ in pairs) >= 8
    with Client(server.grpc_url) as client:
        roots = [
            item.vectors[item.tokens.index("root")] for item in client.encode_tokens(text for _, text in SENTENCES)
        ]
    cosines = 1 - distance.squareform(distance.pdist(roots, "cosine"))
    printed = [[float(cosine) for cosine in row.split()] for row in re.findall(r"\d  ((?:\d\.\d\d ?)+) ->", out)]
    np.testing.assert_allclose(printed, cosines, atol=0.0051)
    same, other = map(float, re.search(r"same meaning: ([\d.]+), other meaning: ([\d.]+)", out).groups())
    assert same > other + 0.1


def test_text_classifier_beats_chance_and_words_on_files_it_has_not_seen(run):
    chance, *rows = percentages(run("text_classifier").partition("surest")[0])
    words, vectors = rows[::2], rows[1::2]
    assert chance < 65 and len(vectors) == 4
    assert vectors[-1] > 88 and vectors[-1] > words[-1]
    assert vectors[1] > 80 and vectors[1] > words[1] + 5  # with 40 labelled texts


def test_async_stream_shares_all_texts_within_its_bound(run):
    out = run("async_stream")
    total, most, clients, *shares = map(int, re.findall(r"\d+", out.partition("nearest")[0]))
    assert total == sum(shares) == sum(len(first_paragraphs(package)) for package in PACKAGES)
    assert len(shares) == clients == CLIENTS and min(shares) >= BATCH
    assert most <= (WAITING + CLIENTS + 1) * BATCH < total / 4
    assert "random element" in out.partition("nearest")[2].splitlines()[1]


def test_own_tokenizer_finds_more_than_berts(run):
    out = run("own_tokenizer")
    assert "##" in out.splitlines()[0] and "| connection refused error" in out
    berts, own = percentages(out)
    assert own > berts + 10


def test_fine_tuned_checkpoint_classifies_with_its_head(run):
    out = run("fine_tuned")
    assert "skipped: classifier.bias and classifier.weight" in out
    right, same = percentages(out)
    assert right > 78 and same > 99  # the largest of the three packages is 41 % of them


def test_layers_compared_go_from_length_to_subject(run, tmp_path):
    picture = tmp_path / "layers.png"
    rows = re.findall(r"with length ([\d.]+), with subject ([\d.]+)", run("layers_compared", str(picture)))
    length, subject = zip(*(map(float, row) for row in rows), strict=True)
    assert len(rows) == 6
    assert length[0] > 0.5 > subject[0]
    assert subject[-1] > 0.6 > length[-1]

    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = image.imread(picture)
    assert pixels.shape[0] > 500 and pixels.shape[1] > 800
    assert 0.05 < (pixels[..., :3].min(axis=2) < 0.9).mean() < 0.5  # neither blank nor a blot


def test_vector_index_loses_little_in_half_the_space(run):
    out = run("vector_index")
    before, after = (int(number.replace(",", "")) for number in re.findall(r"(\d[\d,]+) (?:bytes|in the file)", out))
    assert after == pytest.approx(before / 2, rel=0.01)
    half, graph = percentages(out)
    assert half >= 99 and graph >= 95
    assert "directory tree" in out.partition("nearest to")[2]


def test_searched_stores_find_what_numpy_finds(run, server, tmp_path):
    with running_postgresql() as database:
        out = run("searched_stores", str(tmp_path), database)
    texts, _, _ = labelled_paragraphs(searched_stores.PACKAGES)
    with Client(server.grpc_url) as client:
        similarities = client.encode(texts) @ client.encode(searched_stores.QUESTION)
    nearest = "".join(f"  {text}\n" for text in texts[(-similarities).argsort()[:3]])
    found = re.findall(r"nearest to .* in (\w+):\n((?:  .*(?:\n|$))+)", out)
    assert found == [(store, nearest) for store in ("LanceDB", "Qdrant", "SQL")]


def nearest(out: str, package: str, text: str) -> bool:
    """Whether the first of three answers, best first, is from the package and says that."""
    answers = re.findall(r"^  ([\d.]+)  (\S+): (.*)", out, re.MULTILINE)
    scores = [float(score) for score, _, _ in answers]
    assert len(answers) == 3 and scores == sorted(scores, reverse=True)
    return answers[0][1].startswith(package) and text in answers[0][2]


def test_dataset_search_adds_a_column_and_finds_by_it(run):
    out = run("dataset_search")
    count = sum(len(first_paragraphs(package)) for package in ("asyncio", "email", "pathlib"))
    assert out.startswith(f"{count} rows: text, file, vector\n")
    assert nearest(out, "asyncio/", "Wait")


def test_dask_parquet_keeps_every_row_and_each_partition(run):
    out = run("dask_parquet")
    assert out.startswith(f"{len(first_paragraphs('email'))} rows in 4 files, vectors float32 of 384\n")
    assert nearest(out, "email/", "time")
