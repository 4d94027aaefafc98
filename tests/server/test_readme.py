"""Every line of Python in README runs against the model that `make serve` serves."""

import re

import pytest

from client_sdk import LocalServer
from tests.support.places import ROOT

README = ROOT / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def names():
    """What one block defines is there for those after it, as for a reader who follows them."""
    return {"texts": ["First do it", "then do it right"] * 50}


def test_there_are_blocks():
    assert len(BLOCKS) >= 4


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[0][:40])
def test_a_block_runs(block, names, server: LocalServer, bert_repository, monkeypatch, capsys):
    monkeypatch.setenv("CLIENT_SDK_URL", server.grpc_url)
    code = block.replace('"localhost:8001"', repr(server.grpc_url))
    code = code.replace('"model_repository"', repr(str(bert_repository)))
    exec(compile(code, "README.md", "exec"), names)
