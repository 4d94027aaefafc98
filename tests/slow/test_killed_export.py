"""An export that is killed while it replaces a family: the server that starts next serves the old one or the new."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from client_sdk import Client, LocalServer
from tests.conftest import fill
from tests.support.checkpoints.folders import write_bert
from tests.support.places import ROOT

TEXTS = ["the quick brown fox", "hello world"]

# Exports once for each line, in a process of its own that begins with all modules there, and prints how that ended: it
# ends itself with SIGKILL instead of making its rename number N.
KILLED = """
import json, os, signal, sys
from pathlib import Path
from export.__main__ import main
from export import pipeline
from transformers import AutoTokenizer
rename = Path.rename
def killed(self, target):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
for line in sys.stdin:
    left, *arguments = json.loads(line)
    process = os.fork()
    if not process:
        os.dup2(2, 1)
        Path.rename = killed
        os._exit(main(arguments))
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


@pytest.fixture
def export_killed_at() -> Iterator[Callable[[int, Path, Path], int]]:
    """export_killed_at(rename, checkpoint, repository): the exit status of an export."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as exporting:

        def export(rename: int, checkpoint: Path, repository: Path) -> int:
            print(
                json.dumps([rename, str(checkpoint), "--repository", str(repository)]), file=exporting.stdin, flush=True
            )
            return int(exporting.stdout.readline())

        yield export


def vectors(repository: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    with LocalServer(repository) as server, Client(server.grpc_url) as client:
        return client.encode(TEXTS), [item.vectors for item in client.encode_tokens(TEXTS)]


def test_a_family_is_the_old_one_or_the_new_one_wherever_its_export_is_killed(tmp_path, export_killed_at):
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
        if (status := export_killed_at(rename, tmp_path / "two", repository)) == 0:
            break
        assert status == -signal.SIGKILL
        sentence, tokens = vectors(repository)
        (which,) = [name for name, (expected, _) in found.items() if expected.shape == sentence.shape]
        np.testing.assert_allclose(sentence, found[which][0], atol=1e-6)
        for ours, expected in zip(tokens, found[which][1], strict=True):
            np.testing.assert_allclose(ours, expected, atol=1e-6)
        served.append(which)
        assert [path.name for path in repository.parent.iterdir()] == ["models"]
    assert served == ["one"] + ["two"] * 10
