"""What takes minutes: faults, overload, malformed requests and reloads, each on a real server under load."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from client_sdk import LocalServer


@pytest.fixture(scope="session")
def sentence(expected: dict[str, np.ndarray]) -> np.ndarray:
    """The right vector of each of `texts`, [500, 384] float32."""
    return expected["sentence"]


@pytest.fixture
def own_repository(bert_repository: Path, tmp_path: Path) -> Path:
    """A copy of the family `bert` that a test may damage."""
    copy = tmp_path / "models"
    shutil.copytree(bert_repository, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def bert(bert_repository: Path) -> Iterator[LocalServer]:
    """A server with the family `bert` that a module's tests share; nothing that they do may stop it."""
    with LocalServer(bert_repository) as server:
        yield server
