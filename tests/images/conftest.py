"""One store of images for all tests: each is built once, from the repository as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import buildah as programs
from tests.support.base_images import PYTHON, NoStandIn, make_stand_in, pip_volumes
from tests.support.buildah import Buildah, BuildahError
from tests.support.docker_files import versions

Build = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    if reason := programs.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("buildah")
    yield Buildah(folder)
    shutil.rmtree(folder)  # gigabytes, of which pytest would keep three


@pytest.fixture(scope="session")
def stand_in(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Gives the stand-in another name."""
    made: list[str] = []

    def name(wanted: str) -> None:
        if made:
            buildah("tag", made[0], wanted)
            return
        try:
            make_stand_in(buildah, wanted, tmp_path_factory.mktemp("base"))
        except NoStandIn as error:
            pytest.skip(str(error))
        made.append(wanted)

    return name


@pytest.fixture(scope="session")
def no_python(buildah: Buildah, stand_in: Callable[[str], None]) -> str | None:
    """Puts the base of the images for CPUs in place; why it is a stand-in, None if it is none."""
    try:
        buildah.pull(PYTHON)
    except BuildahError as error:
        stand_in(PYTHON)
        return str(error).splitlines()[-1]
    return None


@pytest.fixture(scope="session")
def build(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """build(FILE, NAME, VARIABLE=...): builds docker/FILE with the versions of docker/.env; see Buildah.build."""
    volumes = pip_volumes(tmp_path_factory.mktemp("pip"))

    def build(file: str, name: str, **arguments: str) -> dict[str, Any]:
        return buildah.build(file, name, versions() | arguments, volumes)

    return build


@pytest.fixture(scope="session")
def cpu(build: Build, no_python: str | None) -> dict[str, Any]:
    """What the image `cpu` says of itself."""
    return build("Dockerfile.cpu", "cpu")


@pytest.fixture(scope="session")
def gateway_image(build: Build, no_python: str | None) -> dict[str, Any]:
    """What the image `gateway` says of itself."""
    return build("Dockerfile.gateway", "gateway")


@pytest.fixture(scope="module")
def network() -> Iterator[list[str]]:
    """Shared, as by the services of compose.yaml."""
    with programs.network() as words:
        yield words


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key of the server, which user 1000 may read."""
    path = tmp_path_factory.mktemp("key") / "api-key"
    path.write_text("a-key-of-more-than-16-characters\n")
    return path
