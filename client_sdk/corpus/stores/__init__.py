"""What takes the vectors of a finished corpus: databases, and files that are searched.

    stores.load("corpus", "postgresql://me@localhost/search?table=texts")

Each row is written by its id, over the one that has it already: to load a corpus again changes nothing, and a load that
was killed is ended by another. docs/stores.md says what each store gets, and how it is asked.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from client_sdk._errors import ClientError, InvalidArgument, InvalidType
from client_sdk.corpus.stores.destination import Destination

__all__ = ["Destination", "checked", "load"]

_MODULES = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "qdrant": "qdrant",
    "qdrant+https": "qdrant",
    "lance": "lance",
    "faiss": "faiss",
    "opensearch": "opensearch",
    "opensearch+https": "opensearch",
}
"""Schemes, and the module and extra of each."""


def load(directory: str | Path, url: str, *, on_rows: Callable[[int], object] | None = None) -> int:
    """Write the corpus in a directory into the store that a URL names; returns how many rows were written.

    Args:
        directory: What `bert-on-triton corpus --output` wrote.
        url: Of the store, see `checked`.
        on_rows: Called with the number of rows that have just been written, a few thousand a time.

    Raises:
        InvalidArgument: The URL is wrong, the corpus is none, its job has not ended, or the store cannot hold it or has
            another model's.
        ClientError: A package is not installed, or what the store answered: `ServerUnreachable`, `AccessDenied`,
            `ServerError`.
    """
    destination = checked(url)
    # It imports pyarrow, which is not there without an extra.
    from client_sdk.corpus.stores.finished import Corpus

    corpus, written = Corpus.at(Path(directory)), 0
    with destination.opened(corpus) as write:
        for rows in corpus.batches(destination.batch_bytes):
            write(rows)
            written += len(rows.ids)
            if on_rows is not None:
                on_rows(len(rows.ids))
    return written


def checked(url: str) -> Destination:
    """What a URL names, if it can be read and the store's package is installed; nothing is connected to.

        postgresql://USER@HOST:PORT/DATABASE?table=NAME     with pgvector; other parameters are libpq's
        qdrant://HOST:PORT/COLLECTION                       or qdrant+https://, and qdrant:///PATH/COLLECTION
        lance:///PATH/TABLE                                 or lance:PATH/TABLE
        faiss:FILE
        opensearch://HOST:PORT/INDEX                        or opensearch+https://

    Raises:
        InvalidArgument: A URL that is none of these.
        ClientError: The store's package is not installed; the message says what to install.
    """
    if not isinstance(url, str):
        raise InvalidType(f"the URL of a store must be str, not {type(url).__name__}")
    scheme, colon, _ = url.partition(":")
    module = _MODULES.get(scheme.lower())
    if module is None or not colon:
        allowed = ", ".join(f"{known}:" for known in _MODULES)
        given = f"{scheme}:" if colon else scheme  # the rest may hold a password
        raise InvalidArgument(f"{given!r} is no store; its URL begins with one of {allowed}")
    try:
        store = importlib.import_module(f"client_sdk.corpus.stores.{module}")
    except ImportError as error:
        install = f"pip install 'bert-on-triton[corpus,{module}]'"
        raise ClientError(f"{scheme}: needs more than is installed ({error}): {install}") from None
    destination: Destination = store.destination(url)
    return destination
