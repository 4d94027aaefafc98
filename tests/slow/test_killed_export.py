"""An export that is killed while it replaces a family: the server that starts next serves the old one or the new."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from client_sdk import Client, LocalServer
from client_sdk._server.repository.unfinished_export import finish_exports
from tests.conftest import fill
from tests.support.checkpoints.folders import write_bert
from tests.support.places import ROOT

TEXTS = ["the quick brown fox", "hello world"]
SERVED = {1: "one", 6: "two"}
"""Renames that an export is killed at before a server starts; behind the others the files are looked at alone."""

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


def exported(repository: Path) -> dict[str, bytes]:
    """The files but for what Python makes of them where they are served."""
    files = [path for path in repository.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    return {str(path.relative_to(repository)): path.read_bytes() for path in files}


def vectors(repository: Path) -> np.ndarray:
    with LocalServer(repository) as server, Client(server.grpc_url) as client:
        return client.encode(TEXTS)


def test_a_family_is_the_old_one_or_the_new_one_wherever_its_export_is_killed(tmp_path, export_killed_at):
    write_bert(tmp_path / "one", seed=1)
    write_bert(tmp_path / "two", seed=2, hidden=64)
    whole, expected = {}, {}
    for name in ("one", "two"):
        fill(tmp_path / f"alone-{name}", tmp_path / name, "bert")
        whole[name] = exported(tmp_path / f"alone-{name}")
        expected[name] = vectors(tmp_path / f"alone-{name}")
    left = []
    for rename in range(1, 100):
        repository = tmp_path / str(rename) / "models"
        shutil.copytree(tmp_path / "alone-one", repository)
        if (status := export_killed_at(rename, tmp_path / "two", repository)) == 0:
            break
        assert status == -signal.SIGKILL
        if rename in SERVED:
            np.testing.assert_allclose(vectors(repository), expected[SERVED[rename]], rtol=0, atol=1e-6)
        else:
            finish_exports(repository)  # with which every server begins
        files = exported(repository)
        left += [name for name in whole if files == whole[name]]
        assert [path.name for path in repository.parent.iterdir()] == ["models"]
    assert left == ["one"] + ["two"] * 10
