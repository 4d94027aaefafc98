"""The steps of Dockerfile.gateway, run in a virtual environment instead of an image, in front of a real server."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np

from client_sdk import Client, LocalServer
from tests.server.test_docker_cpu import pins
from tests.support.docker_files import DOCKER, ROOT
from tests.support.patience import PATIENCE, wait_for


def last(instruction: str) -> list[str]:
    """The arguments of the last of these instructions, which are JSON."""
    text = (DOCKER / "Dockerfile.gateway").read_text().replace("\\\n", "")
    found = re.findall(rf"^{instruction} [^\[]*(\[.*\])$", text, re.MULTILINE)[-1]
    arguments: list[str] = json.loads(found)
    return arguments


def test_the_environment_of_the_image_answers_and_knows_that_it_lives(server: LocalServer, tmp_path: Path):
    environment = tmp_path / "environment"
    subprocess.run([DOCKER / "install.sh", "gateway", environment, sys.executable], check=True, capture_output=True)
    python = environment / "bin" / "python3"
    installed = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    pinned = pins(DOCKER / "requirements" / "gateway.txt")
    assert sorted(installed.lower().replace("-", "_").split()) == sorted(line.replace("-", "_") for line in pinned)

    application = tmp_path / "application"
    application.mkdir()
    (application / "client_sdk").symlink_to(ROOT / "client_sdk")
    inside = {
        "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
        "PYTHONPATH": str(application),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "CLIENT_SDK_URL": server.grpc_url,
        "API_KEY_FILE": "",
        "KEYS_FILE": "",
    }
    shell, flag, command = last("CMD")
    here = command.replace("0.0.0.0:8080", "127.0.0.1:0")  # the ports of a container are its own
    output = tmp_path / "output"
    with output.open("w") as file:
        gateway = subprocess.Popen([shell, flag, here], env=inside, stdout=file, stderr=file, cwd=tmp_path)
    try:

        def address() -> str | None:
            assert gateway.poll() is None, output.read_text()
            found = re.search(r"HTTP +(http://\S+)\n", output.read_text())
            return found[1] if found else None

        url = wait_for(address)
        asked = urllib.request.Request(f"{url}/v1/embeddings", json.dumps({"input": "First do it"}).encode())
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer, Client(server.grpc_url) as client:
            (found,) = json.load(answer)["data"]
            np.testing.assert_array_equal(np.float32(found["embedding"]), client.encode("First do it"))
        check = shlex.join(last("HEALTHCHECK")).replace("http://127.0.0.1:8080", url)
        assert subprocess.run(check, shell=True, env=inside).returncode == 0
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(PATIENCE) == 0, output.read_text()
        assert subprocess.run(check, shell=True, env=inside, capture_output=True).returncode != 0
    finally:
        if gateway.poll() is None:
            gateway.kill()
            gateway.wait()
