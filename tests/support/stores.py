"""What tests ask of each store, in its own words.

LanceDB and Qdrant are imported where they are used: they take seconds, for which every collection would wait.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import faiss
import numpy as np
import numpy.typing as npt
import psycopg

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

Row = tuple[npt.NDArray[Any], "str | None"]


class Kept(Protocol):
    """A store with one table, and its URL."""

    url: str

    def rows(self) -> dict[int, Row]:
        """Vectors and titles by id; no title from a store that has vectors alone."""

    def nearest(self, vector: npt.NDArray[np.float32], count: int) -> list[int]:
        """Ids by cosine."""

    def add_another(self, size: int) -> None:
        """A table of this name that a load did not make, with a vector of so many numbers."""


class PostgreSQL:
    """A table of a database."""

    def __init__(self, database: str, table: str) -> None:
        self.url = f"{database}&table={table}"
        self._database, self._table = database, table

    def ask(self, query: str) -> list[Any]:
        """The rows of an answer in SQL."""
        with psycopg.connect(self._database) as connection:
            found = connection.execute(query)
            return found.fetchall() if found.description else []

    def rows(self) -> dict[int, Row]:
        return {
            id_: (np.array(json.loads(vector), np.float32), title)
            for id_, vector, title in self.ask(f"SELECT id, vector::text, title FROM {self._table}")
        }

    def nearest(self, vector: npt.NDArray[np.float32], count: int) -> list[int]:
        order = f"vector <=> '{vector.tolist()}'"
        return [id_ for (id_,) in self.ask(f"SELECT id FROM {self._table} ORDER BY {order} LIMIT {count}")]

    def add_another(self, size: int) -> None:
        self.ask("CREATE EXTENSION IF NOT EXISTS vector")
        self.ask(f"CREATE TABLE {self._table} (id bigint PRIMARY KEY, title text, vector vector({size}))")
        self.ask(f"INSERT INTO {self._table} VALUES (1, 'of others', '{[1] * size}')")


class Qdrant:
    """A collection in a directory."""

    def __init__(self, folder: Path) -> None:
        self.url = f"qdrant://{folder}/texts"
        self._folder = folder

    def client(self) -> QdrantClient:
        """One that must be closed."""
        from qdrant_client import QdrantClient

        return QdrantClient(path=str(self._folder))

    def rows(self) -> dict[int, Row]:
        with closing(self.client()) as client:
            points, _ = client.scroll("texts", limit=10_000, with_vectors=True)
        return {point.payload["id"]: (np.array(point.vector, np.float32), point.payload["title"]) for point in points}

    def nearest(self, vector: npt.NDArray[np.float32], count: int) -> list[int]:
        with closing(self.client()) as client:
            found = client.query_points("texts", query=vector, limit=count).points
        return [point.payload["id"] for point in found]

    @staticmethod
    def parameters(size: int) -> Any:
        """Of a collection of vectors of so many numbers, as its client takes them."""
        from qdrant_client.models import Distance, VectorParams

        return VectorParams(size=size, distance=Distance.COSINE)

    def add_another(self, size: int) -> None:
        from qdrant_client.models import PointStruct

        with closing(self.client()) as client:
            client.create_collection("texts", self.parameters(size))
            client.upsert("texts", [PointStruct(id=1, vector=[1.0] * size, payload={})])


class Lance:
    """A table in a directory."""

    def __init__(self, folder: Path) -> None:
        self.url = f"lance://{folder}/texts"
        self._folder = folder

    def table(self) -> Any:
        """As LanceDB opens it."""
        import lancedb

        return lancedb.connect(self._folder).open_table("texts")

    def rows(self) -> dict[int, Row]:
        rows = self.table().to_arrow().to_pylist()
        assert len({row["id"] for row in rows}) == len(rows)
        return {row["id"]: (np.array(row["vector"], np.float32), row["title"]) for row in rows}

    def nearest(self, vector: npt.NDArray[np.float32], count: int) -> list[int]:
        found = self.table().search(vector).distance_type("cosine").limit(count).to_list()
        return [row["id"] for row in found]

    def add_another(self, size: int) -> None:
        import lancedb

        rows = [{"id": 1, "title": "of others", "vector": np.ones(size, np.float32)}]
        lancedb.connect(self._folder).create_table("texts", rows)


class Faiss:
    """A file."""

    def __init__(self, file: Path) -> None:
        self.url = f"faiss:{file}"
        self.file = file

    def index(self) -> Any:
        """As FAISS reads it."""
        return faiss.read_index(str(self.file))

    def rows(self) -> dict[int, Row]:
        index = self.index()
        ids = faiss.vector_to_array(index.id_map).tolist()
        assert len(set(ids)) == len(ids)
        return {id_: (index.reconstruct(id_), None) for id_ in ids}

    def nearest(self, vector: npt.NDArray[np.float32], count: int) -> list[int]:
        _, (ids,) = self.index().search(vector[np.newaxis], count)
        return ids.tolist()

    def add_another(self, size: int) -> None:
        index = faiss.IndexIDMap2(faiss.IndexFlatIP(size))
        index.add_with_ids(np.ones((1, size), np.float32), np.array([1]))
        faiss.write_index(index, str(self.file))
