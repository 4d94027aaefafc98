"""A disk that is full while a family is exported: an error that says so, and the repository as it was."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import reference

# What may be written to one file, in bytes; Linux answers beyond it as it does on a full disk, with an error.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from export.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    "limit", [100, 100_000, 10_000_000], ids=["at the first file", "in the middle", "at the network"]
)
def test_an_export_that_finds_no_room_says_so_and_changes_nothing(own_repository: Path, limit: int):
    before = contents(own_repository)
    export = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), str(reference.checkpoint()), "--repository", str(own_repository)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert export.returncode != 0
    assert "File too large" in export.stderr and "Traceback" not in export.stderr, export.stderr
    assert contents(own_repository) == before
    assert [path.name for path in own_repository.parent.iterdir()] == [own_repository.name]
