"""What the modules beside it share; it runs in their environment."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(scope="session")
def url() -> str:
    """Of the gateway."""
    return os.environ["GATEWAY_URL"]


@pytest.fixture(scope="session")
def expected() -> SimpleNamespace:
    """Texts, and what this project's own client is answered."""
    folder = Path(os.environ["GATEWAY_EXPECTED"])
    return SimpleNamespace(**json.loads((folder / "expected.json").read_text()), **np.load(folder / "expected.npz"))


@pytest.fixture(scope="session")
def same():
    """Compares vectors bit for bit."""

    def same(found, vectors) -> None:
        np.testing.assert_array_equal(np.asarray(found, np.float32), vectors)

    return same
