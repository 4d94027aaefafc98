"""The images of docker/, built and run by buildah as compose.yaml runs them: `make test-images`.

Bases that cannot be had are stood in for, see tests/support/base_images.py; those of NVIDIA always are.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sdk import Client, LocalServer
from tests.support import reference
from tests.support.base_images import PYTHON, TENSORRT, TRITON
from tests.support.buildah import Buildah
from tests.support.image_programs import check_gateway, check_server, encode, healthy, installed, pins, run

Build = Callable[..., dict[str, Any]]
MODULES = ("grpc", "numpy", "onnxruntime", "psutil", "tokenizers", "tritonclient")
FOUND = f"from importlib.util import find_spec as f; print(*(m for m in {MODULES} if f(m)))"


@pytest.fixture(scope="module")
def models(bert_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 where every user may read it."""
    folder = tmp_path_factory.mktemp("served") / "models"
    shutil.copytree(bert_repository, folder)
    folder.chmod(0o755)
    return folder


def test_the_python_images_are_built_on_the_base_that_they_name(no_python: str | None) -> None:
    if no_python:
        pytest.skip(f"{PYTHON} is a stand-in of Debian's packages: {no_python}")


def test_the_images_answer_know_their_health_and_end_in_order(
    buildah: Buildah,
    cpu: dict[str, Any],
    gateway_image: dict[str, Any],
    network: list[str],
    models: Path,
    key: Path,
    texts: list[str],
    expected: dict[str, np.ndarray],
    tmp_path: Path,
) -> None:
    secret = f"{key}:/run/secrets/api-key:ro"
    asked = {"API_KEY_FILE": "/run/secrets/api-key", "CLIENT_SDK_MODEL": "bert"}
    log = tmp_path / "server"
    with (
        buildah.container("cpu", network, f"{models}:/models:ro", secret, **asked) as server,
        buildah.container("gateway", network, secret, CLIENT_SDK_URL="127.0.0.1:8001", **asked) as gateway,
        healthy(server, cpu["Cmd"], check_of(cpu), log),
    ):
        check_server(server, check_of(cpu), texts[:64], expected["sentence"][:64])
        with healthy(gateway, gateway_image["Cmd"], check_of(gateway_image), tmp_path / "gateway"):
            check_gateway(gateway, "http://127.0.0.1:8080", texts[0], encode(server, texts[:1])[0])
    assert "Started GRPCInferenceService" in log.read_text()


@pytest.mark.parametrize(("name", "user"), [("cpu", "triton-server"), ("gateway", "gateway")])
def test_an_image_runs_as_user_1000_whose_none_of_its_files_are(
    buildah: Buildah, cpu: dict[str, Any], gateway_image: dict[str, Any], name: str, user: str
) -> None:
    with buildah.container(name, ()) as place:
        assert run(place, "id").stdout == f"uid=1000({user}) gid=1000({user}) groups=1000({user})\n"
        assert run(place, "pwd").stdout == "/opt/bert-on-triton\n"
        assert installed(place) == pins(name)
        files = [path.lstat() for path in (place.files / "opt" / "bert-on-triton").rglob("*")]
    assert {(file.st_uid, file.st_gid) for file in files} == {(0, 0)}
    assert not [file for file in files if file.st_mode & stat.S_IWOTH and not stat.S_ISLNK(file.st_mode)]


def test_an_image_says_what_runtimes_go_by(cpu: dict[str, Any], gateway_image: dict[str, Any]) -> None:
    assert [*cpu["ExposedPorts"]] == ["8000/tcp", "8001/tcp", "8002/tcp"] and [*cpu["Volumes"]] == ["/models"]
    assert [*gateway_image["ExposedPorts"]] == ["8080/tcp"]
    for image in (cpu, gateway_image):
        assert image["User"] == "1000:1000"
        assert image["Labels"]["org.opencontainers.image.base.name"] == PYTHON
        assert image["Healthcheck"]["Interval"] == 15e9  # nanoseconds


@pytest.mark.parametrize(
    ("encoder", "files", "found"),
    [("yes", ("encoder", "steps"), MODULES), ("no", ("steps",), {*MODULES} - {"onnxruntime"})],
)
def test_the_steps_of_the_image_for_gpus_put_packages_where_tritons_python_finds_them(
    buildah: Buildah, build: Build, stand_in: Callable[[str], None], encoder: str, files: tuple[str, ...], found: Any
) -> None:
    stand_in(TRITON)
    name = f"gpu-{encoder}"
    says = build("Dockerfile", name, PYTHON_ENCODER=encoder)
    assert says["User"] == "1000:1000" and says["Cmd"] == ["python3", "/opt/bert-on-triton/serve.py"]
    with buildah.container(name, ()) as place:
        # As Triton's Python steps are started, which do not look at PYTHONPATH.
        seen = run(place, "env", "--unset=PYTHONPATH", "python3", "-c", FOUND)
        assert {*seen.stdout.split()} == {*found}, seen.stderr
        packages = sorted(pin for file in files for pin in pins(file))
        assert installed(place, "--path=/opt/bert-on-triton/packages") == packages
        assert run(place, *check_of(says)).returncode == 1  # nothing is served
        assert not (place.files / "tmp" / "requirements").exists()


def test_the_image_of_exports_fills_a_repository_as_user_1000(
    buildah: Buildah,
    build: Build,
    stand_in: Callable[[str], None],
    texts: list[str],
    expected: dict[str, np.ndarray],
    tmp_path: Path,
) -> None:
    stand_in(TENSORRT)
    says = build("Dockerfile.export", "export")
    models = tmp_path / "models"
    models.mkdir()
    shutil.chown(models, 1000, 1000)
    checkpoint = f"{reference.checkpoint()}:/checkpoints/minilm:ro"
    with buildah.container("export", (), f"{models}:/models", checkpoint) as place:
        done = run(place, *says["Entrypoint"], "minilm", "--name", "bert")
        assert done.returncode == 0, done.stderr
        cache = (place.files / "var" / "cache" / "export").stat()
        assert cache.st_mode & 0o7777 == 0o1777  # for whoever it runs as
        assert (place.files / "models").stat().st_uid == 1000
    assert {(path.stat().st_uid, path.stat().st_gid) for path in models.rglob("*")} == {(1000, 1000)}
    with LocalServer(models) as server, Client(server.grpc_url) as client:
        np.testing.assert_allclose(client.encode(texts[:64]), expected["sentence"][:64], atol=1e-5)


def check_of(image: dict[str, Any]) -> list[str]:
    """The command of the image's health check."""
    kind, *command = image["Healthcheck"]["Test"]
    assert kind == "CMD"
    return command
