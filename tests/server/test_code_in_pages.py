"""Every line of Python in the pages for users runs, on the model of `make serve` or a small one of another kind."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_sdk import LocalServer
from tests.conftest import fill
from tests.support.checkpoints.architectures import CLASSIFIERS, MASKED_LMS, write_classifier, write_masked_lm
from tests.support.checkpoints.folders import VOCABULARY, write_tokenizer
from tests.support.places import ROOT

LEAST = {"README.md": 3, "docs/client.md": 4, "docs/from-bert-as-service.md": 2}
BLOCKS = {
    page: re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for page in LEAST
}


@pytest.fixture(scope="module")
def names():
    """What one block of a page defines is there for those after it, as for a reader who follows them."""
    given = {
        "texts": ["First do it", "then do it right"] * 50,
        "document": "a text",
        "documents": ["a text", "another"],
    }
    return {page: dict(given) for page in LEAST}


@pytest.fixture(scope="module")
def pages_server(bert_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    repository = tmp_path_factory.mktemp("of_pages")
    shutil.copytree(bert_repository, repository, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path_factory.mktemp("reranker")
    settings = {**CLASSIFIERS["bert"], "vocab_size": len(VOCABULARY), "id2label": {"0": "fits"}}
    write_classifier(folder, {**settings, "architectures": ["BertForSequenceClassification"]}, "bert.")
    write_tokenizer(folder, VOCABULARY)
    fill(repository, folder, "reranker")
    folder = tmp_path_factory.mktemp("splade")
    settings = {**MASKED_LMS["bert"][0], "vocab_size": len(VOCABULARY), "architectures": ["BertForMaskedLM"]}
    write_masked_lm(folder, settings, "bert.")
    write_tokenizer(folder, VOCABULARY)
    fill(repository, folder, "splade", head="splade")
    with LocalServer(repository) as running:
        yield running


@pytest.mark.parametrize("page", LEAST)
def test_there_are_blocks(page):
    assert len(BLOCKS[page]) >= LEAST[page]


@pytest.mark.parametrize(
    ("page", "block"),
    [
        pytest.param(page, block, id=f"{page}: {block.strip().splitlines()[0][:40]}")
        for page, blocks in BLOCKS.items()
        for block in blocks
    ],
)
def test_a_block_runs(page, block, names, pages_server: LocalServer, bert_repository, monkeypatch):
    monkeypatch.setenv("CLIENT_SDK_URL", pages_server.grpc_url)
    code = block.replace('"localhost:8001"', repr(pages_server.grpc_url))
    code = code.replace('"model_repository"', repr(str(bert_repository)))
    exec(compile(code, page, "exec"), names[page])
