"""PostgreSQL with pgvector: a row for each text, written by binary COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import psycopg
import pyarrow as pa
from pgvector import HalfVector, Vector
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from client_sdk._errors import AccessDenied, ClientError, InvalidArgument, ServerBusy, ServerError, ServerUnreachable
from client_sdk.corpus.stores.finished import Corpus, Rows
from client_sdk.corpus.stores.payload import jsonable, of_python

_FORM = "postgresql://USER@HOST:PORT/DATABASE?table=NAME"
_TYPES = {"float32": "vector", "float16": "halfvec"}
_VALUES = {"float32": Vector, "float16": HalfVector}
_OPERATORS = {"cosine": "<=>", "dot": "<#>", "euclidean": "<->", "manhattan": "<+>"}
_MOST_DIMENSIONS = 16_000  # of both types
_LONGEST_NAME = 63  # bytes; of a longer one PostgreSQL takes the beginning
_INCOMING = sql.Identifier("pg_temp", "bert_on_triton_rows")
_DEFAULTS = {"connect_timeout": "10", "tcp_user_timeout": "60000", "application_name": "bert-on-triton"}
_LOCK_TIMEOUT = "60s"
_OPERATIONAL = {("54",): InvalidArgument, ("53300", "55P03"): ServerBusy, ("53", "55"): ServerError}
"""By how their SQLSTATE begins, errors that do not say that a server is away: an id too long for an index; too many
connections, or a lock that was not given; a full disk."""


def destination(url: str) -> PostgreSQL:
    """The table that a URL names.

    Raises:
        InvalidArgument: It names none, or one in quotes, or libpq cannot read it. No message holds a password.
    """
    base, _, query = url.partition("?")
    parameters = parse_qsl(query, keep_blank_values=True)
    tables = [value for name, value in parameters if name == "table"]
    if len(tables) != 1 or not all(tables[0].split(".", 1)):
        raise InvalidArgument(f"the URL of a PostgreSQL store must name one table: {_FORM}")
    if '"' in tables[0]:  # of which PostgreSQL would make a part of the name
        raise InvalidArgument(
            f"the table {tables[0]!r} is written without quotes; upper and lower case are kept as they are"
        )
    others = urlencode([pair for pair in parameters if pair[0] != "table"], quote_via=quote)
    try:
        connection = conninfo_to_dict(f"{base}?{others}" if others else base)
    except psycopg.Error:  # whose message may hold a part of the password
        connection = None
    # libpq takes what follows such a character in a password for a host, a port or a database, and would say it.
    if (
        connection is None
        or any("@" in str(connection.get(name, "")) for name in ("host", "dbname"))
        or not str(connection.get("port", "")).replace(",", "0").isdecimal()
        and connection.get("port")
    ):
        raise InvalidArgument(
            f"the URL of the PostgreSQL store cannot be read, which is {_FORM}; in a user and a password, characters "
            "such as @ : / ? % are written as %40 %3A %2F %3F %25"
        )
    return PostgreSQL({**_DEFAULTS, **connection}, tuple(tables[0].split(".", 1)))


@dataclass(frozen=True)
class PostgreSQL:
    """A table in a database."""

    connection: dict[str, Any] = field(repr=False)
    table: tuple[str, ...]
    batch_bytes: int = 8 << 20

    @contextmanager
    def opened(self, corpus: Corpus) -> Iterator[Callable[[Rows], None]]:
        """Makes the extension and the table, if they are not there; each batch is a transaction."""
        corpus.holdable("pgvector", _TYPES, _OPERATORS)
        if corpus.size > _MOST_DIMENSIONS:
            raise InvalidArgument(f"pgvector holds vectors of up to {_MOST_DIMENSIONS:,} numbers, not {corpus.size:,}")
        for name in (*self.table, *corpus.schema.names):
            if len(name.encode()) > _LONGEST_NAME:
                raise InvalidArgument(f"PostgreSQL has names of up to {_LONGEST_NAME} bytes, not {name!r}")
        with _failures_told(), psycopg.connect(**self.connection, autocommit=True) as connection:
            connection.execute(sql.SQL("SET lock_timeout = {}").format(_LOCK_TIMEOUT))
            _make_extension(connection, corpus)
            yield _Table(connection, self.table, corpus).write


def _make_extension(connection: psycopg.Connection[Any], corpus: Corpus) -> None:
    query = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    if connection.execute(query).fetchone() is None:
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported) as error:
            raise ClientError(
                f"the database has no pgvector ({_line(error)}): somebody who may has to CREATE EXTENSION vector"
            ) from None
    ((version,),) = connection.execute(query).fetchall()
    if corpus.origin.precision == "float16" and tuple(map(int, version.split(".")[:2])) < (0, 7):
        raise InvalidArgument(f"pgvector {version} cannot hold vectors of float16, which need 0.7 or later")
    register_vector(connection)


class _Table:
    """A table that takes the rows of a corpus."""

    def __init__(self, connection: psycopg.Connection[Any], names: tuple[str, ...], corpus: Corpus) -> None:
        self._connection, self._corpus = connection, corpus
        self._name, self._where = sql.Identifier(*names), f"the table {'.'.join(names)}"
        self._vector_type = f"{_TYPES[corpus.origin.precision]}({corpus.size})"
        with connection.transaction():
            # IF NOT EXISTS asks for the right to make one even where it is there.
            if connection.execute("SELECT to_regclass(%s)", [self._name.as_string()]).fetchall() == [(None,)]:
                self._make()
            self._types = self._checked_types()
            self._check_origin()
        columns = sql.SQL(", ").join(map(sql.Identifier, corpus.schema.names))
        connection.execute(
            sql.SQL("CREATE TEMP TABLE {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA").format(
                _INCOMING, columns, self._name
            )
        )
        self._copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(_INCOMING, columns)
        rest = [sql.Identifier(name) for name in corpus.schema.names if name != corpus.id_column]
        # Rows that are as they were are not written again.
        self._merge = sql.SQL(
            "INSERT INTO {table} AS kept ({columns}) SELECT {columns} FROM {incoming} ON CONFLICT ({id}) DO UPDATE "
            "SET {changes} WHERE ROW({old}) IS DISTINCT FROM ROW({new})"
        ).format(
            table=self._name,
            columns=columns,
            incoming=_INCOMING,
            id=sql.Identifier(corpus.id_column),
            changes=sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(name) for name in rest),
            old=sql.SQL(", ").join(sql.SQL("kept.{}").format(name) for name in rest),
            new=sql.SQL(", ").join(sql.SQL("excluded.{}").format(name) for name in rest),
        )

    def write(self, rows: Rows) -> None:
        """All of them or, if that fails, none."""
        value = _VALUES[self._corpus.origin.precision]
        columns = [
            map(value, rows.vectors) if name == self._corpus.vector_column else _values(name, rows.columns.column(name))
            for name in self._corpus.schema.names
        ]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            with cursor.copy(self._copy) as copy:
                copy.set_types(self._types)
                for row in zip(*columns, strict=True):
                    copy.write_row(row)
            cursor.execute(self._merge)

    def _make(self) -> None:
        columns = []
        for column in self._corpus.schema:
            kind = self._vector_type if column.name == self._corpus.vector_column else _column_type(column.type)
            key = " PRIMARY KEY" if column.name == self._corpus.id_column else ""
            columns.append(sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(kind + key)))
        self._connection.execute(sql.SQL("CREATE TABLE {} ({})").format(self._name, sql.SQL(", ").join(columns)))

    def _checked_types(self) -> list[int]:
        """Those of the corpus's columns, as numbers."""
        there = {
            name: (number, kind)
            for name, number, kind in self._connection.execute(
                "SELECT attname, atttypid, format_type(atttypid, atttypmod) FROM pg_attribute "
                "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
                [self._name.as_string()],
            )
        }
        if missing := [name for name in self._corpus.schema.names if name not in there]:
            raise InvalidArgument(f"{self._where} has no column {', '.join(missing)}; it has {', '.join(there)}")
        kind = there[self._corpus.vector_column][1]
        if kind not in (self._vector_type, self._vector_type.partition("(")[0]):
            raise InvalidArgument(
                f"{self._where} has {self._corpus.vector_column} of {kind}, and the corpus {self._vector_type}"
            )
        unique = self._connection.execute(
            "SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] WHERE indrelid = "
            "%s::regclass AND attname = %s AND indisunique AND indnkeyatts = 1 AND indpred IS NULL",
            [self._name.as_string(), self._corpus.id_column],
        )
        if not unique.fetchall():
            raise InvalidArgument(f"{self._where} has no primary key or unique index of {self._corpus.id_column} alone")
        return [there[name][0] for name in self._corpus.schema.names]

    def _check_origin(self) -> None:
        """It is kept with the vectors, as the comment of their column."""
        ((kept,),) = self._connection.execute(
            "SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
            [self._name.as_string(), self._corpus.vector_column],
        ).fetchall()
        filled = self._connection.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(self._name)).fetchall()
        if not self._corpus.origin.agrees(kept, self._where, filled=bool(filled)):
            self._connection.execute(
                sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
                    self._name, sql.Identifier(self._corpus.vector_column), self._corpus.origin.to_json()
                )
            )


def _column_type(kind: pa.DataType) -> str:
    for is_one, name in (
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_uint64, "numeric"),
        (pa.types.is_integer, "bigint"),
        (pa.types.is_floating, "double precision"),
        (pa.types.is_decimal, "numeric"),
        (pa.types.is_date, "date"),
        (pa.types.is_time, "time"),
        (pa.types.is_binary, "bytea"),
        (pa.types.is_large_binary, "bytea"),
        (pa.types.is_fixed_size_binary, "bytea"),
        (pa.types.is_nested, "jsonb"),
    ):
        if is_one(kind):
            return name
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    return "text"


def _values(name: str, column: pa.Array) -> list[Any]:
    values = of_python(name, column)
    if pa.types.is_nested(column.type):
        return [jsonable(value) for value in values]
    if _column_type(column.type) == "text":  # which is there for what PostgreSQL has no type for
        return [None if value is None else str(value) for value in values]
    return values


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise AccessDenied(f"PostgreSQL: {_line(error)}") from None
    except psycopg.DataError as error:
        raise InvalidArgument(f"PostgreSQL cannot hold a row: {_line(error)}") from None
    except psycopg.OperationalError as error:
        for states, kind in _OPERATIONAL.items():
            if (error.sqlstate or "").startswith(states):
                raise kind(f"PostgreSQL{' cannot hold a row' * (kind is InvalidArgument)}: {_line(error)}") from None
        asked = error.pgconn is not None and (error.pgconn.needs_password or error.pgconn.used_password)
        raise (AccessDenied if asked else ServerUnreachable)(f"PostgreSQL: {_line(error)}") from None
    except psycopg.Error as error:
        raise ServerError(f"PostgreSQL: {_line(error)}") from None


def _line(error: psycopg.Error) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
