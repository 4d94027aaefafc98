from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.servers.memory import without_arena


@pytest.fixture(scope="session")
def gateway_repository(gateway_repository: Path) -> Path:
    """The same, whose encoders' memory tells what they hold."""
    for encoder in gateway_repository.glob("*_encoder"):
        without_arena(gateway_repository, encoder.name.removesuffix("_encoder"))
    return gateway_repository
