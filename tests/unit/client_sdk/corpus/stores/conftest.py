from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("psycopg") is None:  # where the client is tested alone
    collect_ignore_glob = ["test_*.py"]
else:
    from tests.support import stores
    from tests.support.servers.postgresql import running_postgresql

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The URL of a PostgreSQL with pgvector."""
    with running_postgresql() as url:
        yield url


@pytest.fixture
def table(database: str) -> stores.PostgreSQL:
    """One that is not there yet."""
    return stores.PostgreSQL(database, f"texts{next(NUMBERS)}")


@pytest.fixture(params=["postgresql", "qdrant", "lance", "faiss"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> stores.Kept:
    """Each of those that run here, still empty."""
    if request.param == "postgresql":
        made: stores.Kept = request.getfixturevalue("table")
        return made
    make: dict[str, Callable[[Path], stores.Kept]] = {
        "qdrant": stores.Qdrant,
        "lance": stores.Lance,
        "faiss": stores.Faiss,
    }
    return make[request.param](tmp_path / request.param)
