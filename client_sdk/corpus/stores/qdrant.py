"""Qdrant: a point for each text, on a server or in a directory of this machine (its local mode)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from client_sdk._errors import AccessDenied, InvalidArgument, ServerError, ServerUnreachable
from client_sdk.corpus.stores.destination import path_and_name, server
from client_sdk.corpus.stores.finished import KEY, Corpus, Rows
from client_sdk.corpus.stores.payload import payloads

_PORT = 6333
_TIMEOUT = 60  # seconds for a request
_RETRIES = 3
_DATATYPES = {
    "float32": models.Datatype.FLOAT32,
    "float16": models.Datatype.FLOAT16,
    "uint8": models.Datatype.UINT8,
}
_DISTANCES = {
    "cosine": models.Distance.COSINE,
    "dot": models.Distance.DOT,
    "euclidean": models.Distance.EUCLID,
    "manhattan": models.Distance.MANHATTAN,
}


def destination(url: str) -> Qdrant:
    """The collection that a URL names; `QDRANT_API_KEY` of the environment is a server's key."""
    rest = url.partition(":")[2]
    if not rest.startswith("//") or rest.startswith("///"):
        folder, name = path_and_name(url, "qdrant:///PATH/COLLECTION")
        return Qdrant(name, {"path": folder})
    host, port, name, user, password = server(url, _PORT)
    if user is not None or password is not None:
        raise InvalidArgument("a key of Qdrant is no part of its URL: put it into QDRANT_API_KEY of the environment")
    protocol = "https" if url.lower().startswith("qdrant+https:") else "http"
    written = f"[{host}]" if ":" in host else host
    return Qdrant(name, {"url": f"{protocol}://{written}:{port}"})


def point_id(value: int | str) -> int | str:
    """What Qdrant, whose ids are unsigned numbers and UUIDs, calls a text with this id.

    Such an id is its own; any other is `str(uuid.uuid5(uuid.NAMESPACE_OID, value))`.
    """
    if isinstance(value, int):
        if value < 0:
            raise InvalidArgument(f"Qdrant cannot hold a row with the id {value}: its ids are not negative")
        return value
    try:
        if str(uuid.UUID(value)) == value:
            return value
    except ValueError:
        pass
    return str(uuid.uuid5(uuid.NAMESPACE_OID, value))


@dataclass(frozen=True)
class Qdrant:
    """A collection, and what its client is made of."""

    collection: str
    where: dict[str, str]
    batch_bytes: int = 2 << 20
    """As JSON it is five times that, and a server takes 32 MiB."""

    @contextmanager
    def opened(self, corpus: Corpus) -> Iterator[Callable[[Rows], None]]:
        """Makes the collection, if it is not there; a point's payload is the other columns and the id."""
        corpus.holdable("Qdrant", _DATATYPES, _DISTANCES)
        with _failures_told():
            opened = self._client()
        with closing(opened) as client:
            with _failures_told():
                self._make(client, corpus)

            @_failures_told()
            def write(rows: Rows) -> None:
                client.upload_collection(
                    self.collection,
                    vectors=rows.vectors,
                    payload=payloads(rows.columns, [corpus.id_column, *corpus.others]),
                    ids=[point_id(value) for value in rows.ids.to_pylist()],
                    batch_size=len(rows.ids),
                    max_retries=_RETRIES,
                    wait=True,
                )

            yield write

    def _client(self) -> QdrantClient:
        if "path" in self.where:
            return QdrantClient(**self.where)
        key = os.environ.get("QDRANT_API_KEY") or None
        return QdrantClient(**self.where, api_key=key, timeout=_TIMEOUT, check_compatibility=False)

    def _make(self, client: QdrantClient, corpus: Corpus) -> None:
        asked = models.VectorParams(
            size=corpus.size,
            distance=_DISTANCES[corpus.origin.similarity],
            datatype=_DATATYPES[corpus.origin.precision],
        )
        place = f"the collection {self.collection}"
        if not client.collection_exists(self.collection):
            client.create_collection(self.collection, vectors_config=asked, metadata=corpus.origin.as_kept())
            if KEY not in (client.get_collection(self.collection).config.metadata or {}):
                client.delete_collection(self.collection)
                raise InvalidArgument(f"{place} cannot say which model is in it: Qdrant 1.16 or later is needed")
        found = client.get_collection(self.collection).config
        there = found.params.vectors
        if not isinstance(there, models.VectorParams):
            raise InvalidArgument(f"{place} has named vectors; one of a single vector a point is needed")
        for name in ("size", "distance"):
            if getattr(there, name) != getattr(asked, name):
                raise InvalidArgument(
                    f"{place} has vectors of {name} {_said(getattr(there, name))}, and the corpus of "
                    f"{_said(getattr(asked, name))}"
                )
        filled = client.count(self.collection, exact=True).count > 0
        if not corpus.origin.agrees(found.metadata, place, filled=filled):
            client.update_collection(self.collection, metadata=corpus.origin.as_kept())


def _said(value: Any) -> str:
    return str(getattr(value, "value", value))


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except ResponseHandlingException as error:
        raise ServerUnreachable(f"Qdrant does not answer: {error}") from None
    except UnexpectedResponse as error:
        kind = AccessDenied if error.status_code in (401, 403) else ServerError
        raise kind(f"Qdrant answered {' '.join(str(error).split())}") from None
    except RuntimeError as error:  # of local mode: another process has the directory
        raise ServerError(f"Qdrant: {error}") from None
