"""Other projects' own packages ask a gateway, in an environment of theirs: `make test-gateway-clients`.

A module of packages/ runs there, and imports nothing of this project; what it compares with is written down here.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from client_sdk import Client, LocalServer
from tests.support.places import ROOT
from tests.support.servers.gateways import RunningGateway

ENVIRONMENT = ROOT / ".venv-gateway-clients"
PYTHON = ENVIRONMENT / "bin" / "python"
OLDER = {"with_langchain_cohere": ENVIRONMENT / "cohere-5"}
"""Where what a module needs is that the rest does not."""
PACKAGES = Path(__file__).parent / "packages"
MODULES = sorted(path.stem for path in PACKAGES.glob("with_*.py"))
TEXTS = ["First do it", "then do it right", "then do it better"]
QUERY = "find the quick fox"


@pytest.fixture(scope="module")
def expected(gateway_server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this project's client is answered."""
    folder = tmp_path_factory.mktemp("expected")
    with Client(gateway_server.grpc_url) as bert, Client(gateway_server.grpc_url, "small") as small:
        np.savez(
            folder / "expected.npz",
            bert=bert.encode(TEXTS),
            bert_64=bert.encode(TEXTS, truncate_dim=64),
            bert_each=np.concatenate([bert.encode([text]) for text in TEXTS]),
            small_documents=small.encode_document(TEXTS),
            small_query=small.encode_query(QUERY),
        )
        tokens = int(bert.count_tokens(TEXTS).sum())
    with Client(gateway_server.grpc_url, "reranker") as reranker:
        ranked = {kind: reranker.rerank(QUERY, TEXTS, activation=kind) for kind in ("sigmoid", "none")}
    with Client(gateway_server.grpc_url, "splade") as splade:
        vector = splade.encode_sparse(TEXTS[0])
    order = np.argsort(vector.indices)
    sparse = {"indices": vector.indices[order].tolist(), "weights": vector.weights[order].tolist()}
    known = {"texts": TEXTS, "query": QUERY, "tokens": tokens, "ranked": ranked, "sparse": sparse}
    (folder / "expected.json").write_text(json.dumps(known))
    return folder


def test_there_are_modules():
    assert PYTHON.exists(), "make test-gateway-clients sets the environment up"
    assert "with_openai" in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_package(module: str, gateway: RunningGateway, expected: Path):
    command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, f"--confcutdir={PACKAGES}"]
    environment = {**os.environ, "GATEWAY_URL": gateway.url, "GATEWAY_EXPECTED": str(expected)}
    if module in OLDER:
        environment["PYTHONPATH"] = str(OLDER[module])
    done = subprocess.run(
        [*map(str, command), "--import-mode=importlib", str(PACKAGES / f"{module}.py")],
        cwd=PACKAGES,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and " skipped" not in done.stdout, done.stdout + done.stderr
