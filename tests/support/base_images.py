"""What images are built on: the base that a Dockerfile names where its registry can be reached, else a stand-in.

python:3.12-slim-bookworm is a Debian with a Python beside it. The stand-in is a Debian of this machine's own package
sources with Debian's Python, under the base's name. It proves the steps of a Dockerfile, and not the base.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.support.buildah import Buildah
from tests.support.docker_files import versions

PYTHON = "docker.io/library/python:{PYTHON_RELEASE}".format_map(versions())
TRITON, TENSORRT = (
    f"nvcr.io/nvidia/{program}:{versions()['TRITON_RELEASE']}-py3" for program in ("tritonserver", "tensorrt")
)

# libpython is what Triton's Python backend links to, and python:slim has it.
_PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv", "?name(^libpython3[.][0-9]+$)")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SOURCE = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"


class NoStandIn(Exception):
    """Why there is none."""


def make_stand_in(buildah: Buildah, name: str, folder: Path) -> None:
    """The image NAME, of Debian's packages.

    Raises:
        NoStandIn: mmdebstrap is missing, or the packages cannot be had.
        BuildahError: buildah cannot make an image of them.
    """
    if shutil.which("mmdebstrap") is None:
        raise NoStandIn("there is no mmdebstrap: apt-get install mmdebstrap")
    archive = folder / "base.tar"
    packages = ",".join(_PACKAGES)
    done = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", "", archive, "-"],
        input=_sources(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise NoStandIn(f"mmdebstrap: {done.stderr[-2000:]}")
    buildah.make(name, archive, f"--env=PATH={_PATH}", "--cmd=python3")
    archive.unlink()


def _sources() -> str:
    """This machine's package sources, those of the distribution alone."""
    found: list[str] = []
    for origin in ("Debian", "Ubuntu"):
        command = ["apt-get", "indextargets", f"--format={_SOURCE}", "Created-By: Packages", f"Origin: {origin}"]
        found += subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    if not found:
        raise NoStandIn("apt-get knows no package lists of Debian: apt-get update")
    return "".join(f"{line}\n" for line in dict.fromkeys(found))


def pip_volumes(folder: Path) -> list[str]:
    """Volumes with which pip in an image reaches what pip reaches here: its settings, and all files that they name."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    settings = RawConfigParser()
    settings.add_section("global")
    # The variables of the environment come first, and win.
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        section = "global" if section == ":env:" else section
        if not settings.has_section(section):
            settings.add_section(section)
        settings.set(section, key, ast.literal_eval(value))
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    if bundle and not settings.has_option("global", "cert"):
        settings.set("global", "cert", bundle)
    file = folder / "pip.conf"
    with file.open("w") as opened:
        settings.write(opened)
    words = [word for section in settings.sections() for _, value in settings.items(section) for word in value.split()]
    # What an index of files lists lies beside it.
    paths = {os.path.dirname(unquote(urlsplit(word).path)) if word.startswith("file:") else word for word in words}
    local = sorted(path for path in paths if os.path.isabs(path) and os.path.exists(path))
    return [f"{file}:/etc/pip.conf:ro", *(f"{path}:{path}:ro" for path in local)]
