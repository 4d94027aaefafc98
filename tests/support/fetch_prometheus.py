"""Unpacks Debian's package `prometheus` (the server and promtool) into a directory, without root.

    python tests/support/fetch_prometheus.py DIRECTORY

The tests that need it are skipped without it; so where it cannot be had, this says why and does not fail. It takes the
distribution's package lists where the machine has some, else fetches lists of its own; it leaves the system as it is.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "prometheus"


def fetch(directory: Path) -> None:
    """Makes `directory` the root of the unpacked package.

    Raises:
        OSError: apt-get or dpkg-deb is missing, or the directory cannot be written.
        subprocess.CalledProcessError: the package cannot be had.
    """
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        try:
            _run(place, "apt-get", "download", PACKAGE)
        except subprocess.CalledProcessError:
            _run(place, "apt-get", *_own_lists(place), "update")
            _run(place, "apt-get", *_own_lists(place), "download", PACKAGE)
        (package,) = place.glob("*.deb")
        _run(place, "dpkg-deb", "--extract", str(package), "root")
        directory.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(place / "root", directory)


def _own_lists(place: Path) -> list[str]:
    """The options with which apt-get keeps all that it writes in `place`, which takes no root."""
    (place / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (place / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    return [f"--option=Dir::State::Lists={place / 'lists'}", f"--option=Dir::Cache={place / 'cache'}"]


def _run(place: Path, *command: str) -> None:
    subprocess.run(command, cwd=place, check=True, capture_output=True, text=True, timeout=300)


if __name__ == "__main__":
    try:
        fetch(Path(sys.argv[1]).resolve())
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or [f"status {error.returncode}"])[-1]
        print(f"no prometheus, so some tests are skipped: {error.cmd[0]}: {reason}", file=sys.stderr)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"no prometheus, so some tests are skipped: {error}", file=sys.stderr)
