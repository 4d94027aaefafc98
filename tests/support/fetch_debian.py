"""Unpacks a package of Debian into a directory, without root.

    python tests/support/fetch_debian.py PACKAGE DIRECTORY

The tests that need it are skipped without it; so where it cannot be had, this says why and does not fail. It takes the
distribution's package lists where the machine has some, else fetches lists of its own; it leaves the system as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def fetch(name: str, directory: Path) -> None:
    """Makes `directory` the root of the unpacked package.

    Raises:
        OSError: apt-get or dpkg-deb is missing, or the directory cannot be written.
        subprocess.CalledProcessError: the package cannot be had.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        try:
            _run(place, "apt-get", "download", name)
        except subprocess.CalledProcessError:
            _run(place, "apt-get", *_own_lists(place), "update")
            _run(place, "apt-get", *_own_lists(place), "download", name)
        (package,) = place.glob("*.deb")
        _run(place, "dpkg-deb", "--extract", str(package), "root")
        _keep_links_inside(place / "root")
        directory.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(place / "root", directory)


def _keep_links_inside(root: Path) -> None:
    """What links to another file of the package leads there, and not to where that would be installed."""
    for link in root.rglob("*"):
        if link.is_symlink() and os.path.isabs(target := os.readlink(link)):
            inside = root / target.lstrip("/")
            if inside.exists():
                link.unlink()
                link.symlink_to(os.path.relpath(inside, link.parent))


def _own_lists(place: Path) -> list[str]:
    """The options with which apt-get keeps all that it writes in `place`, which takes no root."""
    (place / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (place / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    return [f"--option=Dir::State::Lists={place / 'lists'}", f"--option=Dir::Cache={place / 'cache'}"]


def _run(place: Path, *command: str) -> None:
    subprocess.run(command, cwd=place, check=True, capture_output=True, text=True, timeout=300)


if __name__ == "__main__":
    package = sys.argv[1]
    try:
        fetch(package, Path(sys.argv[2]).resolve())
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or [f"status {error.returncode}"])[-1]
        print(f"no {package}, so some tests are skipped: {error.cmd[0]}: {reason}", file=sys.stderr)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"no {package}, so some tests are skipped: {error}", file=sys.stderr)
