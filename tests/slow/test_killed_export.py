"""An export that is killed while it replaces a family: the server that starts next serves the old one or the new."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from client_sdk import Client, LocalServer
from tests.conftest import fill
from tests.support.checkpoints.folders import write_bert
from tests.support.places import ROOT

TEXTS = ["the quick brown fox", "hello world"]

# Ends itself with SIGKILL instead of making its rename number N.
KILLED = """
import os, signal, sys
from pathlib import Path
rename, left = Path.rename, int(sys.argv[1])
def killed(self, target):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = killed
from export.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def vectors(repository: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    with LocalServer(repository) as server, Client(server.grpc_url) as client:
        return client.encode(TEXTS), [item.vectors for item in client.encode_tokens(TEXTS)]


def export_killed_at(rename: int, checkpoint: Path, repository: Path) -> int:
    command = [sys.executable, "-c", KILLED, str(rename), str(checkpoint), "--repository", str(repository)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode


def test_a_family_is_the_old_one_or_the_new_one_wherever_its_export_is_killed(tmp_path):
    write_bert(tmp_path / "one", seed=1)
    write_bert(tmp_path / "two", seed=2, hidden=64)
    found = {}
    for name in ("one", "two"):
        fill(tmp_path / f"alone-{name}", tmp_path / name, "bert")
        found[name] = vectors(tmp_path / f"alone-{name}")
    served = []
    for rename in range(1, 100):
        repository = tmp_path / str(rename) / "models"
        fill(repository, tmp_path / "one", "bert")
        if export_killed_at(rename, tmp_path / "two", repository) == 0:
            break
        sentence, tokens = vectors(repository)
        (which,) = [name for name, (expected, _) in found.items() if expected.shape == sentence.shape]
        np.testing.assert_allclose(sentence, found[which][0], atol=1e-6)
        for ours, expected in zip(tokens, found[which][1], strict=True):
            np.testing.assert_allclose(ours, expected, atol=1e-6)
        served.append(which)
        assert [path.name for path in repository.parent.iterdir()] == ["models"]
    assert served == ["one"] + ["two"] * 10
