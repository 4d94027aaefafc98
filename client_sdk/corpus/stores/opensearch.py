"""OpenSearch: a document for each text, with a knn_vector, written by its client's bulk helper."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from opensearchpy import OpenSearch, helpers
from opensearchpy.exceptions import (
    AuthenticationException,
    AuthorizationException,
    ConnectionError,
    OpenSearchException,
    TransportError,
)

from client_sdk._errors import AccessDenied, InvalidArgument, ServerBusy, ServerError, ServerUnreachable
from client_sdk.corpus.stores.destination import server
from client_sdk.corpus.stores.finished import Corpus, Rows
from client_sdk.corpus.stores.payload import payloads

_PORT = 9200
_TIMEOUT = 60  # seconds for a request
_RETRIES = 5
_BUSY = 429
_LONGEST_ID = 512  # bytes
_DATA_TYPES = {"float32": "float", "float16": "float", "int8": "byte"}
_SPACES = {"cosine": "cosinesimil", "dot": "innerproduct", "euclidean": "l2"}


def destination(url: str) -> Index:
    """The index that a URL names.

    The user and the password are in the URL, or `OPENSEARCH_USERNAME` and `OPENSEARCH_PASSWORD` of the environment.
    """
    host, port, name, user, password = server(url, _PORT)
    return Index(host, port, url.lower().startswith("opensearch+https:"), name, user, password)


@dataclass(frozen=True)
class Index:
    """An index of a server."""

    host: str
    port: int
    encrypted: bool
    index: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    batch_bytes: int = 2 << 20
    """As JSON it is five times that."""

    @contextmanager
    def opened(self, corpus: Corpus) -> Iterator[Callable[[Rows], None]]:
        """Makes the index, if it is not there; a document has all columns."""
        corpus.holdable("OpenSearch", _DATA_TYPES, _SPACES)
        with _failures_told(), closing(self._client()) as client:
            self._make(client, corpus)

            def write(rows: Rows) -> None:
                _send(client, self._actions(rows, corpus))

            yield write
            client.indices.refresh(index=self.index)

    def _client(self) -> OpenSearch:
        user = os.environ.get("OPENSEARCH_USERNAME") if self.user is None else self.user
        password = os.environ.get("OPENSEARCH_PASSWORD") if self.password is None else self.password
        return OpenSearch(
            hosts=[{"host": self.host, "port": self.port}],
            http_auth=(user, password) if user and password else None,
            use_ssl=self.encrypted,
            verify_certs=True,
            timeout=_TIMEOUT,
            max_retries=_RETRIES,
            retry_on_timeout=True,
        )

    def _make(self, client: OpenSearch, corpus: Corpus) -> None:
        place = f"the index {self.index}"
        vector = {
            "type": "knn_vector",
            "dimension": corpus.size,
            "data_type": _DATA_TYPES[corpus.origin.precision],
            "method": {"name": "hnsw", "engine": "lucene", "space_type": _SPACES[corpus.origin.similarity]},
        }
        if not client.indices.exists(index=self.index):
            body = {
                "settings": {"index": {"knn": True}},
                "mappings": {"_meta": corpus.origin.as_kept(), "properties": {corpus.vector_column: vector}},
            }
            client.indices.create(index=self.index, body=body)
            return
        (found,) = client.indices.get_mapping(index=self.index).values()  # of an alias the index behind it
        there = found["mappings"].get("properties", {}).get(corpus.vector_column, {})
        if there.get("type") != "knn_vector" or there.get("dimension") != corpus.size:
            raise InvalidArgument(
                f"{place} has {corpus.vector_column} of {there.get('type')} {there.get('dimension')}, and the corpus "
                f"knn_vector {corpus.size}"
            )
        filled = client.count(index=self.index)["count"] > 0
        if not corpus.origin.agrees(found["mappings"].get("_meta"), place, filled=filled):
            client.indices.put_mapping(index=self.index, body={"_meta": corpus.origin.as_kept()})

    def _actions(self, rows: Rows, corpus: Corpus) -> Iterator[dict[str, Any]]:
        documents = payloads(rows.columns, [corpus.id_column, *corpus.others])
        for document, vector in zip(documents, rows.vectors, strict=True):
            identifier = str(document[corpus.id_column])
            if not 0 < len(identifier.encode()) <= _LONGEST_ID:
                raise InvalidArgument(f"OpenSearch has ids of 1 to {_LONGEST_ID} bytes, not {identifier[:100]!r}")
            document[corpus.vector_column] = vector.tolist()
            yield {"_op_type": "index", "_index": self.index, "_id": identifier, "_source": document}


def _send(client: OpenSearch, actions: Iterator[dict[str, Any]]) -> None:
    """Those that the server was too busy for are sent again, which the helper does only if it raises nothing."""
    options = {"max_retries": _RETRIES, "raise_on_error": False}
    refused = [item for taken, item in helpers.streaming_bulk(client, actions, **options) if not taken]
    if refused:
        ((first,),) = [refused[0].values()]
        error = first.get("error", {})
        reason = error.get("reason") if isinstance(error, dict) else error
        kind = ServerBusy if first.get("status") == _BUSY else InvalidArgument
        raise kind(f"OpenSearch refused {len(refused)} rows, the first of them {first.get('_id')}: {reason}")


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except (AuthenticationException, AuthorizationException) as error:
        raise AccessDenied(f"OpenSearch answered {error.status_code}: {error.error}") from None
    except ConnectionError as error:
        raise ServerUnreachable(f"OpenSearch does not answer: {error.error}") from None
    except TransportError as error:
        raise (ServerBusy if error.status_code == _BUSY else ServerError)(
            f"OpenSearch answered {' '.join(str(error).split())}"
        ) from None
    except OpenSearchException as error:
        raise ServerError(f"OpenSearch: {' '.join(str(error).split())}") from None
