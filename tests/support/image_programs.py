"""What the programs of an image have to do, wherever they run: in the image, or in an environment made by its steps."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil

from tests.support.docker_files import DOCKER, ROOT
from tests.support.patience import PATIENCE, wait_for

ENCODE = """
import json, os, sys
from client_sdk import Client
with open(os.environ["API_KEY_FILE"]) as key, Client(api_key=key.read().strip()) as client:
    print(json.dumps(client.encode(json.load(sys.stdin)).tolist()))
"""
POST = """
import sys, urllib.request as http
with http.urlopen(http.Request(sys.argv[1], sys.argv[2].encode())) as answer:
    print(answer.read().decode())
"""


class Place(Protocol):
    """Where programs run."""

    user: int
    """Whose they are."""

    def words(self, *command: str, **environment: str) -> list[str]:
        """The command that runs `command` there, with these variables over the others."""
        ...


class Environment:
    """A virtual environment made by docker/install.sh, with client_sdk beside it, as in the image NAME.

    Args:
        name: The image's, and of its requirements.
        folder: A directory of the test's own.
        variables: The environment's, beside those that the image sets.
    """

    user = os.getuid()

    def __init__(self, name: str, folder: Path, **variables: str) -> None:
        self.python = folder / "environment" / "bin" / "python3"
        install = (DOCKER / "install.sh", name, folder / "environment", sys.executable)
        subprocess.run(install, check=True, capture_output=True)
        # No other package than those that were installed, and serve.py's own.
        application = folder / "application"
        application.mkdir()
        (application / "client_sdk").symlink_to(ROOT / "client_sdk")
        self._folder = folder
        self._variables = {
            "PATH": f"{self.python.parent}:/usr/bin:/bin",
            "PYTHONPATH": str(application),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            **variables,
        }

    def words(self, *command: str, **environment: str) -> list[str]:
        """See `Place`."""
        variables = (f"{name}={value}" for name, value in (self._variables | environment).items())
        return ["env", "--ignore-environment", f"--chdir={self._folder}", *variables, *command]


def run(place: Place, *command: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """What a command did that ends; `given` is its standard input."""
    words = place.words(*command, **environment)
    return subprocess.run(words, input=given, capture_output=True, text=True, timeout=PATIENCE)


@contextlib.contextmanager
def running(place: Place, command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program whose standard output and error are a pipe, as in a container; `log` gets what it says."""
    reader, writer = os.pipe()
    os.fchown(writer, place.user, -1)  # as the runtimes of containers do
    process = subprocess.Popen(place.words(*command), stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
    os.close(writer)
    with log.open("wb") as file:
        copy = subprocess.Popen(["cat"], stdin=reader, stdout=file)
    os.close(reader)
    try:
        yield process
    finally:
        for one in [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
        copy.wait(PATIENCE)


def end(process: subprocess.Popen[bytes], log: Path) -> None:
    """SIGTERM is taken for an end in order, by the program itself; buildah would kill what it runs."""
    program = psutil.Process(process.pid)
    while program.cmdline()[0].startswith("buildah"):  # and what it is within an image, buildah-chroot-exec
        (program,) = program.children()
    program.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0, log.read_text()


def encode(place: Place, texts: Sequence[str]) -> np.ndarray:
    """Vectors [N, D] float32, asked for by the client that is there."""
    done = run(place, "python3", "-c", ENCODE, given=json.dumps([*texts]))
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout), np.float32)


@contextlib.contextmanager
def healthy(place: Place, command: Sequence[str], check: Sequence[str], log: Path) -> Iterator[None]:
    """The program runs in the block, from when its health check passes until SIGTERM, which it obeys."""
    with running(place, command, log) as process:

        def is_healthy() -> bool:
            assert process.poll() is None, log.read_text()
            return run(place, *check).returncode == 0

        wait_for(is_healthy)
        yield
        end(process, log)
    assert run(place, *check).returncode == 1


def check_server(place: Place, check: Sequence[str], texts: Sequence[str], expected: np.ndarray) -> None:
    """A healthy server of all-MiniLM-L6-v2 that asks for a key gives the vectors that are recorded, [N, D] float32."""
    np.testing.assert_allclose(encode(place, texts), expected, atol=1e-5)
    assert run(place, *check, API_KEY_FILE="").returncode == 1


def check_gateway(place: Place, url: str, text: str, expected: np.ndarray) -> None:
    """A healthy gateway gives the vector, [D] float32, that its server gave to a client, bit for bit."""
    asked = json.dumps({"input": text})
    done = run(place, "python3", "-c", POST, f"{url}/v1/embeddings", asked)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["data"]
    np.testing.assert_array_equal(np.float32(found["embedding"]), expected)


def pins(name: str) -> list[str]:
    """The packages that docker/requirements/NAME.txt and the files it names pin, as `installed` has them."""
    lines = (DOCKER / "requirements" / f"{name}.txt").read_text().splitlines()
    others = [line.split()[1].removesuffix(".txt") for line in lines if line.startswith("-r ")]
    own = [line.replace("-", "_").lower() for line in lines if "==" in line and line[0] != "#"]
    return sorted([*own, *(pin for other in others for pin in pins(other))])


def installed(place: Place, *options: str) -> list[str]:
    """What pip says is installed there, with `options` of pip freeze."""
    done = run(place, "python3", "-m", "pip", "freeze", *options)
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.lower().replace("-", "_").split())
