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
    """Compares vectors: of one text bit for bit, of several as far as the network takes the same ones together."""

    def same(found, vectors) -> None:
        exact = np.ndim(vectors) == 1 or len(vectors) == 1
        np.testing.assert_allclose(np.asarray(found, np.float32), vectors, rtol=0, atol=0 if exact else 1e-6)

    return same
