"""The Makefile's targets for users, run by make in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkpoints.folders import write_bert
from tests.support.places import ROOT

COPIED = ("Makefile", ".gitignore", "pyproject.toml", "model_repository", "export")


def run(place: Path, *command: object) -> str:
    # Not what a make that runs the tests tells those below it.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    done = subprocess.run([*map(str, command)], cwd=place, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of its own, with what is tracked of COPIED, and this environment in its place."""
    place = tmp_path / "checkout"
    for path in run(ROOT, "git", "ls-files", *COPIED).splitlines():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, place / path)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    run(place, "git", "init", "--quiet")
    run(place, "git", "add", ".")
    run(place, "git", *identity, "commit", "--quiet", "--message", "all")
    return place


def make(checkout: Path, *arguments: str, python: str = sys.executable) -> str:
    """What make prints; the environment is taken as installed."""
    return run(checkout, "make", "--old-file=.venv/serve", f"PY={python}", *arguments)


def test_the_default_model_comes_back_as_it_was(checkout: Path, tmp_path: Path) -> None:
    repository = checkout / "model_repository"
    status = ("git", "status", "--porcelain")
    another = tmp_path / "another"
    write_bert(another)
    # As `python -m export ANOTHER` in the checkout: its own template is what is written over.
    run(checkout, sys.executable, "-m", "export", another)
    (repository / "bert_encoder" / "12").mkdir()
    (repository / "bert_encoder" / "12" / "model.onnx").write_bytes(b"of another version")
    run(checkout, sys.executable, "-m", "export", another, "--name", "other")
    assert "bert_encoder/config.pbtxt" in run(checkout, *status)
    make(checkout, "model")
    assert run(checkout, *status) == ""
    assert sorted(path.name for path in (repository / "bert_encoder").iterdir()) == ["1", "config.pbtxt", "warmup"]
    network = "bert_encoder/1/model.onnx"
    assert (repository / network).stat().st_size > 50e6 > (repository / "other_encoder/1/model.onnx").stat().st_size


def test_serve_takes_ports_and_other_options(checkout: Path) -> None:
    network = "--old-file=model_repository/bert_encoder/1/model.onnx"
    least = ["-m", "client_sdk", "serve", "--model-repository", "model_repository"]
    assert make(checkout, network, "serve", python="echo").split() == [*least, "--gateway-port", "8080"]
    ports = ("HTTP_PORT=9000", "GRPC_PORT=9001", "METRICS_PORT=9002", "GATEWAY_PORT=9003")
    given = make(checkout, network, "serve", *ports, "ARGS=--listen 0.0.0.0 --verbose", python="echo").split()
    assert given == [
        *least,
        *("--http-port", "9000", "--grpc-port", "9001", "--metrics-port", "9002", "--gateway-port", "9003"),
        *("--listen", "0.0.0.0", "--verbose"),
    ]


def test_what_takes_long_is_announced(checkout: Path) -> None:
    announced, exported, served = make(checkout, "serve", python="echo").splitlines()
    assert "all-MiniLM-L6-v2" in announced and "seconds" in announced
    assert exported.startswith("-m export") and served.startswith("-m client_sdk serve")


def test_every_step_that_has_python_is_checked(checkout: Path) -> None:
    printed = make(checkout, "--old-file=.venv/dev", "--dry-run", "lint", python="echo")
    (steps,) = re.findall(r"for step in (.*?);", printed)
    modules = run(ROOT, "git", "ls-files", "model_repository/*.py").splitlines()
    assert {*steps.split()} == {str(Path(module).parent) for module in modules}


def test_measurements_are_written_where_it_is_said(checkout: Path) -> None:
    old = ("--old-file=model_repository/bert_encoder/1/model.onnx", "--old-file=.venv/perf")
    printed = make(checkout, *old, "bench", "ARGS=--output perf/results", python="echo").splitlines()
    assert [line for line in printed if not line.startswith("echo")] == [
        f"-m perf {command} --output perf/results" for command in ("ceiling", "profile", "load --quick")
    ]
