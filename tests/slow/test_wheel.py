"""The package as it is installed: built, put into environments of its own outside the checkout, and used there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from client_sdk import LocalServer
from tests.support import reference
from tests.support.patience import PATIENCE
from tests.support.places import ROOT
from tests.support.servers.local_servers import ending, free_ports, read_until

# What exports leave in the places of the template and beside it; git ignores all of it.
EXPORTED = (
    "bert_encoder/1/model.onnx",
    "bert_encoder/1/identity",
    "bert_encoder/1/__pycache__/model.cpython-311.pyc",
    "bert_encoder/2/model.py",
    "bert_tokenizer/1/tokenizer.json",
    "bert_pooling/1/weights.bin",
    "bert2/config.pbtxt",
    "bert2_encoder/1/model.py",
    "support/config.pbtxt",
)


def tracked(*paths: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def run(directory: Path, *command: object, status: int = 0) -> str:
    """What the command prints in `directory`, where nothing leads back to the checkout."""
    done = subprocess.run(
        [*map(str, command)], cwd=directory, env=outside(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def outside() -> dict[str, str]:
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "CLIENT_SDK_URL", "CLIENT_SDK_MODEL", "CLIENT_SDK_API_KEY")
    return {name: value for name, value in os.environ.items() if name not in ours}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of an sdist of a checkout with exports in it."""
    checkout = tmp_path_factory.mktemp("checkout")
    for path in tracked():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, checkout / path)
    for path in EXPORTED:
        (checkout / "model_repository" / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / "model_repository" / path).write_text("exported here")
    run(checkout, sys.executable, "-m", "build", "--outdir", "dist")
    (built,) = (checkout / "dist").glob("*.whl")
    return built


def install(directory: Path, wheel: Path, extras: str = "") -> Path:
    """The programs of an environment with nothing but the wheel and what it asks for."""
    run(directory, sys.executable, "-m", "venv", "environment")
    programs = directory / "environment" / "bin"
    run(directory, programs / "python", "-m", "pip", "install", "--quiet", "--no-compile", f"{wheel}{extras}")
    return programs


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The programs of an environment that can export and serve."""
    return install(tmp_path_factory.mktemp("everything"), wheel, "[export,server]")


@pytest.fixture(scope="module")
def client_alone(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The programs of an environment with the wheel and no extra."""
    return install(tmp_path_factory.mktemp("client"), wheel)


@pytest.fixture
def lines(texts: list[str], sentence: np.ndarray, tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A file with a text a line, and the right vector of each."""
    fit = [index for index, text in enumerate(texts) if text.isprintable() and text.strip() == text != ""][:64]
    (tmp_path / "texts.txt").write_text("".join(f"{texts[index]}\n" for index in fit), "utf-8")
    return tmp_path / "texts.txt", sentence[fit]


def test_the_wheel_holds_both_packages_and_the_template_and_nothing_that_was_exported(wheel: Path) -> None:
    code = {path for path in tracked("client_sdk", "export") if path.endswith((".py", ".html", ".css", ".js"))}
    template = {re.sub("^model_repository/", "export/template/", path) for path in tracked("model_repository")}
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert files == code | template | {"client_sdk/py.typed", "export/py.typed"}


def test_an_installed_package_exports_serves_and_encodes(
    everything: Path, lines: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    program = everything / "bert-on-triton"
    printed = run(tmp_path, program, "export", reference.checkpoint())
    assert "to model_repository in" in printed and (tmp_path / "model_repository/bert_encoder/1/model.onnx").is_file()
    serve = shlex.split(printed.splitlines()[-1].removeprefix("serve it: "))
    ports = free_ports()
    options = [f"--{name}-port={port}" for name, port in zip(("http", "grpc", "metrics"), ports, strict=True)]
    url = f"127.0.0.1:{ports[1]}"
    with (tmp_path / "errors").open("w") as errors:
        server = subprocess.Popen(
            [*serve, *options], cwd=tmp_path, env=outside(), stdout=subprocess.PIPE, stderr=errors, text=True
        )
    with ending(server):
        read_until(server, "Ctrl-C")
        run(tmp_path, program, "health", "--url", url)
        run(tmp_path, program, "encode", lines[0], "-o", "vectors.npy", "--url", url)
        server.terminate()
        assert server.wait(PATIENCE) == 0
    assert (tmp_path / "errors").read_text() == ""
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), lines[1], atol=1e-5)


def test_the_client_alone_encodes_and_says_what_else_there_is_to_install(
    client_alone: Path, bert: LocalServer, lines: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    program = client_alone / "bert-on-triton"
    run(tmp_path, program, "encode", lines[0], "-o", "vectors.npy", "--url", bert.grpc_url)
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), lines[1], atol=1e-5)

    (line,) = run(tmp_path, program, "export", "checkpoint", status=1).splitlines()
    assert re.fullmatch(r"error: \S+ has no \w+, which export needs: pip install 'bert-on-triton\[export\]'", line)
    shutil.copytree(bert.model_repository, tmp_path / "models")
    line = run(tmp_path, program, "serve", "--model-repository", "models", status=1).splitlines()[-1]
    assert re.fullmatch(
        r"error: no tritonserver on this machine\. Looked for: .* "
        r"Install it with: pip install 'bert-on-triton\[server\]'",
        line,
    )
    # Of a package that is installed, pip asks no index for the package itself.
    run(tmp_path, client_alone / "python", "-m", "pip", "install", "--dry-run", "bert-on-triton[export,server]")
