"""The steps of Dockerfile.cpu, run in a virtual environment instead of an image."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from client_sdk import Client
from tests.support.docker_files import DOCKER, ROOT
from tests.support.patience import PATIENCE
from tests.support.servers.local_servers import free_ports

# As docker/serve.py, but on loopback and on ports that are free; the ports of a container are its own.
SERVE = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("serve", sys.argv[1])
serve = importlib.util.module_from_spec(spec)
spec.loader.exec_module(serve)
arguments = serve.command([], os.environ)
end = arguments.index("--")
arguments[end:end] = ["--listen=127.0.0.1", *sys.argv[2:]]
os.execv(sys.executable, [sys.executable, "-m", "client_sdk", *arguments])
"""


def test_the_environment_of_the_image_serves_and_knows_that_it_is_healthy(repository, tmp_path, texts, expected):
    environment = tmp_path / "environment"
    subprocess.run([DOCKER / "install.sh", "cpu", environment, sys.executable], check=True, capture_output=True)
    python = environment / "bin" / "python3"
    installed = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    pinned = [line for name in ("steps", "encoder", "cpu") for line in pins(DOCKER / "requirements" / f"{name}.txt")]
    assert sorted(installed.lower().replace("-", "_").split()) == sorted(line.replace("-", "_") for line in pinned)

    # As in the image: client_sdk beside serve.py, and no other package than those that were installed.
    application = tmp_path / "application"
    application.mkdir()
    (application / "client_sdk").symlink_to(ROOT / "client_sdk")
    key = tmp_path / "key"
    key.write_text("a-key-of-more-than-16-characters\n")
    http, grpc, metrics = free_ports()
    inside = {
        "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
        "PYTHONPATH": str(application),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MODEL_REPOSITORY": str(repository),
        "API_KEY_FILE": str(key),
        "CLIENT_SDK_URL": f"127.0.0.1:{grpc}",
    }
    health = ["sh", "-c", health_command()]
    server = subprocess.Popen(
        [
            *(python, "-c", SERVE, DOCKER / "serve.py"),
            *(f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"),
        ],
        env=inside,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    with (tmp_path / "log").open("w") as log:  # standard error is a pipe in a container too
        copy = subprocess.Popen(["cat"], stdin=server.stderr, stdout=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while (checked := subprocess.run(health, env=inside, capture_output=True, text=True)).returncode:
            assert server.poll() is None and time.monotonic() < deadline, (
                checked.stderr + (tmp_path / "log").read_text()
            )
        with Client(f"127.0.0.1:{grpc}", api_key=key.read_text().strip()) as client:
            np.testing.assert_allclose(client.encode(texts[:64]), expected["sentence"][:64], atol=1e-5)
        keyless = inside | {"API_KEY_FILE": ""}
        assert subprocess.run(health, env=keyless, capture_output=True).returncode == 1
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0
        copy.wait(PATIENCE)
        assert "Started GRPCInferenceService" in (tmp_path / "log").read_text()
    finally:
        if server.poll() is None:
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
        assert server.stderr
        server.stderr.close()
        copy.wait(PATIENCE)


def pins(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if "==" in line and line[0] != "#"]


def health_command() -> str:
    """What the image's HEALTHCHECK runs."""
    found = re.search(r'"sh", "-c", "(.+)"\]', (DOCKER / "Dockerfile.cpu").read_text())
    assert found
    return found[1].replace(r"\"", '"')
