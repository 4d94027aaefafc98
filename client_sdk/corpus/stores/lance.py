"""LanceDB: a table in a directory, or in an object store that LanceDB can open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lancedb
import pyarrow as pa

from client_sdk._errors import InvalidArgument, ServerError
from client_sdk.corpus.stores.destination import path_and_name
from client_sdk.corpus.stores.finished import KEY, Corpus, Rows

_PRECISIONS = {"float32": "float", "float16": "halffloat", "ubinary": "uint8"}
"""Those that it can search, the last one by Hamming distance."""

_SIMILARITIES = {"cosine": "cosine", "dot": "dot", "euclidean": "l2"}


def destination(url: str) -> Lance:
    """The table that a URL names."""
    folder, name = path_and_name(url, "lance:PATH/TABLE or lance:///PATH/TABLE")
    return Lance(folder, name.removesuffix(".lance"))


@dataclass(frozen=True)
class Lance:
    """A table of a database."""

    database: str
    table: str
    batch_bytes: int = 64 << 20
    """Each becomes a version of the table, for which all ids are read."""

    @contextmanager
    def opened(self, corpus: Corpus) -> Iterator[Callable[[Rows], None]]:
        """Makes the table, if it is not there; afterwards small files are joined."""
        corpus.holdable("LanceDB", _PRECISIONS, _SIMILARITIES)
        for column in corpus.schema:
            if _holds_map(column.type):  # it makes the column, and takes no row: Parquet names what is in one otherwise
                raise InvalidArgument(
                    f"LanceDB cannot hold column {column.name!r} of {column.type}: it takes no maps as Parquet has them"
                )
        with _failures_told():
            table = self._made(corpus)

        @_failures_told()
        def write(rows: Rows) -> None:
            merge = table.merge_insert(corpus.id_column).when_matched_update_all().when_not_matched_insert_all()
            merge.execute(rows.columns)

        yield write
        with _failures_told():
            table.optimize()

    def _made(self, corpus: Corpus) -> Any:
        schema = corpus.schema.with_metadata({KEY: corpus.origin.to_json()})
        database = lancedb.connect(self.database)
        try:
            table = database.open_table(self.table)
        except (ValueError, FileNotFoundError) as error:
            if "not found" not in str(error):
                raise
            return database.create_table(self.table, schema=schema)
        place = f"the table {self.table}"
        if table.schema.remove_metadata() != corpus.schema:
            there = ", ".join(f"{column.name} {column.type}" for column in table.schema)
            here = ", ".join(f"{column.name} {column.type}" for column in corpus.schema)
            raise InvalidArgument(f"{place} has columns {there}, and the corpus {here}")
        # What is there and empty cannot be told afterwards whose vectors it has, so it is as if it were full.
        corpus.origin.agrees((table.schema.metadata or {}).get(KEY.encode()), place, filled=True)
        return table


def _holds_map(kind: pa.DataType) -> bool:
    inner = (kind.field(number).type for number in range(kind.num_fields))
    return bool(pa.types.is_map(kind)) or any(map(_holds_map, inner))


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except InvalidArgument:
        raise
    except (ValueError, RuntimeError, OSError) as error:
        raise ServerError(f"LanceDB: {next(iter(str(error).splitlines()), type(error).__name__)}") from None
