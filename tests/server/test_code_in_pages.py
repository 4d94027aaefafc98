"""Every line of Python in the pages for users runs, on the model of `make serve` or a small one of another kind."""

import re

import pytest

from client_sdk import LocalServer
from tests.support.places import ROOT

LEAST = {"README.md": 3, "docs/client.md": 5, "docs/engines.md": 7, "docs/from-bert-as-service.md": 2}
BLOCKS = {
    page: re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for page in LEAST
}


@pytest.mark.parametrize("page", LEAST)
def test_there_are_blocks(page):
    assert len(BLOCKS[page]) >= LEAST[page]


@pytest.mark.parametrize("page", LEAST)
def test_the_blocks_of_a_page_run(
    page, kinds_server: LocalServer, m3_server: LocalServer, bert_repository, monkeypatch
):
    """One after the other: what a block defines is there for those after it, as for a reader who follows them."""
    monkeypatch.setenv("CLIENT_SDK_URL", kinds_server.grpc_url)
    names = {
        "texts": ["First do it", "then do it right"] * 50,
        "document": "a text",
        "documents": ["a text", "another"],
    }
    for block in BLOCKS[page]:
        server = m3_server if 'model="m3"' in block else kinds_server
        code = block.replace('"localhost:8001"', repr(server.grpc_url))
        code = code.replace('"model_repository"', repr(str(bert_repository)))
        exec(compile(code, f"{page}: {block.strip().splitlines()[0]}", "exec"), names)
