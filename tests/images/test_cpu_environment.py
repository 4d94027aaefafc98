"""The steps of Dockerfile.cpu, run in a virtual environment instead of an image; test_images.py has the image."""

from __future__ import annotations

import re

from tests.support.docker_files import DOCKER
from tests.support.image_programs import Environment, check_server, healthy, installed, pins
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
    key = tmp_path / "key"
    key.write_text("a-key-of-more-than-16-characters\n")
    http, grpc, metrics = free_ports()
    place = Environment(
        "cpu",
        tmp_path,
        MODEL_REPOSITORY=str(repository),
        API_KEY_FILE=str(key),
        CLIENT_SDK_URL=f"127.0.0.1:{grpc}",
    )
    assert installed(place) == pins("cpu")
    ports = (f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}")
    check = ("sh", "-c", health_command())
    log = tmp_path / "log"
    with healthy(place, ("python3", "-c", SERVE, str(DOCKER / "serve.py"), *ports), check, log):
        check_server(place, check, texts[:64], expected["sentence"][:64])
    assert "Started GRPCInferenceService" in log.read_text()


def health_command() -> str:
    """What the image's HEALTHCHECK runs."""
    found = re.search(r'"sh", "-c", "(.+)"\]', (DOCKER / "Dockerfile.cpu").read_text())
    assert found
    return found[1].replace(r"\"", '"')
