"""The steps of Dockerfile.gateway, run in a virtual environment instead of an image, in front of a real server;
test_images.py has the image.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from client_sdk import Client, LocalServer
from tests.support.docker_files import DOCKER
from tests.support.image_programs import Environment, check_gateway, healthy, installed, pins
from tests.support.servers.local_servers import free_ports


def last(instruction: str) -> list[str]:
    """The arguments of the last of these instructions, which are JSON."""
    text = (DOCKER / "Dockerfile.gateway").read_text().replace("\\\n", "")
    found = re.findall(rf"^{instruction} [^\[]*(\[.*\])$", text, re.MULTILINE)[-1]
    arguments: list[str] = json.loads(found)
    return arguments


def test_the_environment_of_the_image_answers_and_knows_that_it_lives(server: LocalServer, tmp_path: Path):
    place = Environment("gateway", tmp_path, CLIENT_SDK_URL=server.grpc_url, API_KEY_FILE="", KEYS_FILE="")
    assert installed(place) == pins("gateway")
    port, *_ = free_ports()  # the ports of a container are its own
    command = [word.replace("0.0.0.0:8080", f"127.0.0.1:{port}") for word in last("CMD")]
    check = [word.replace(":8080", f":{port}") for word in last("HEALTHCHECK")]
    with Client(server.grpc_url) as client, healthy(place, command, check, tmp_path / "log"):
        check_gateway(place, f"http://127.0.0.1:{port}", "First do it", client.encode("First do it"))
