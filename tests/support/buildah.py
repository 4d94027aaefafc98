"""Images built and run by Debian's buildah: as root, with no daemon and no container engine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.docker_files import DOCKER, ROOT

# Networks of containers are made by programs of other packages: what runs here shares the network of its caller.
_ISOLATION = "--isolation=chroot"
_BUILD_SECONDS = 1200


def missing() -> str | None:
    """Why nothing can be built here; None if it can."""
    if os.getuid() != 0:
        return "buildah's chroot isolation needs root"
    programs = [name for name in ("buildah", "ip", "nsenter", "unshare") if shutil.which(name) is None]
    return f"there is no {', '.join(programs)}: apt-get install buildah iproute2 util-linux" if programs else None


class Buildah:
    """Images and containers in a folder of their own; those of this machine are neither used nor touched.

    Args:
        folder: Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        registries, policy = folder / "registries.conf", folder / "policy.json"
        registries.write_text('unqualified-search-registries = ["docker.io"]\n')
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')
        self._environment = {**os.environ, "CONTAINERS_REGISTRIES_CONF": str(registries)}
        self._policy = policy
        self._words = [
            *("buildah", "--storage-driver=vfs"),
            *(f"--root={folder / 'storage'}", f"--runroot={folder / 'run'}"),
        ]

    def __call__(self, *arguments: str | Path, seconds: float = _BUILD_SECONDS) -> str:
        """What a subcommand prints; raises BuildahError."""
        try:
            done = subprocess.run(
                self.words(*map(str, arguments)),
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise BuildahError(f"buildah {arguments[0]} took more than {seconds:g} s") from None
        if done.returncode:
            raise BuildahError(f"buildah {arguments[0]}: {done.stdout[-2000:]}{done.stderr[-4000:]}".strip())
        return done.stdout.strip()

    def words(self, *arguments: str) -> list[str]:
        """The command of a subcommand."""
        return [*self._words, *arguments]

    def pull(self, name: str) -> None:
        """Fetch an image from its registry; raises BuildahError."""
        self("pull", "--quiet", "--signature-policy", self._policy, name, seconds=300)

    def make(self, name: str, archive: Path, *settings: str) -> None:
        """An image of the files of an archive, with `settings` of buildah config."""
        container = self("from", "scratch")
        self("add", "--quiet", container, archive, "/")
        self("config", *settings, container)
        self("commit", "--quiet", "--rm", "--format=docker", "--signature-policy", self._policy, container, name)

    def build(self, file: str, name: str, arguments: Mapping[str, str], volumes: Sequence[str]) -> dict[str, Any]:
        """docker/FILE as the image NAME, of bases that are here already.

        Returns:
            What the image says of itself, as Docker has it: `Cmd`, `Env`, `Healthcheck`, ...
        """
        self(
            *("build", "--quiet", _ISOLATION, "--pull-never", "--format=docker", "--signature-policy", self._policy),
            *(f"--build-arg={key}={value}" for key, value in arguments.items()),
            *(f"--volume={volume}" for volume in volumes),
            *("--file", DOCKER / file, "--tag", name, ROOT),
        )
        config: dict[str, Any] = json.loads(self("inspect", "--type=image", name))["Docker"]["config"]
        return config

    @contextlib.contextmanager
    def container(self, image: str, network: Sequence[str], *volumes: str, **environment: str) -> Iterator[Container]:
        """A container of an image, which has these volumes (FROM:TO:OPTIONS) and variables, in a network."""
        name = self("from", "--pull-never", "--signature-policy", self._policy, image)
        try:
            yield Container(self, name, network, volumes, environment)
        finally:
            self("rm", name)


class Container:
    """A place where programs of an image run, as the image says: with its variables, and as its user."""

    def __init__(
        self,
        buildah: Buildah,
        name: str,
        network: Sequence[str],
        volumes: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        self.user = 1000
        self.files = Path(buildah("mount", name))
        self._buildah = buildah
        self._name = name
        self._network = network
        self._volumes = volumes
        self._environment = environment

    def words(self, *command: str, **environment: str) -> list[str]:
        """See `image_programs.Place`."""
        variables = (f"--env={key}={value}" for key, value in {**self._environment, **environment}.items())
        volumes = (f"--volume={volume}" for volume in self._volumes)
        run = self._buildah.words("run", _ISOLATION, *variables, *volumes, self._name, "--", *command)
        return [*self._network, *run]


class BuildahError(Exception):
    """What buildah could not do, and what it said."""


@contextlib.contextmanager
def network() -> Iterator[list[str]]:
    """A network of loopback alone, where all ports are free: the words that go before a command to run it there."""
    up = "ip link set lo up && echo up && exec sleep infinity"
    with subprocess.Popen(["unshare", "--net", "sh", "-c", up], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout and holder.stdout.readline() == b"up\n", "no network of its own can be made here"
            yield ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"]
        finally:
            holder.kill()
