"""What PostgreSQL alone has; the rest is in test_stores.py."""

from __future__ import annotations

import datetime
import decimal
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pgvector.psycopg
import psycopg
import pyarrow as pa
import pytest

from client_sdk import AccessDenied, InvalidArgument, ServerBusy, ServerUnreachable
from client_sdk.corpus import stores
from client_sdk.corpus.stores import postgresql
from tests.support.corpora import vectors_of, write_corpus
from tests.support.places import ROOT
from tests.support.servers.postgresql import PASSWORD, WITH_PASSWORD
from tests.support.stores import PostgreSQL

PAGE = (ROOT / "docs" / "stores.md").read_text(encoding="utf-8")
DAY = datetime.date(2026, 1, 2)
NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 500000)
COLUMNS: dict[str, tuple[pa.DataType, Any, str]] = {
    "text": (pa.large_string(), "a 'quoted' \\ text\n", "text"),
    "Some column": (pa.int32(), -3, "bigint"),
    "large": (pa.uint64(), 2**64 - 1, "numeric"),
    "share": (pa.float32(), 0.5, "double precision"),
    "price": (pa.decimal128(10, 2), decimal.Decimal("12.30"), "numeric"),
    "right": (pa.bool_(), True, "boolean"),
    "day": (pa.date32(), DAY, "date"),
    "at": (pa.timestamp("ns"), NOON, "timestamp without time zone"),
    "zoned": (pa.timestamp("us", "UTC"), NOON.replace(tzinfo=datetime.timezone.utc), "timestamp with time zone"),
    "raw": (pa.binary(), b"\x00\xff", "bytea"),
    "hash": (pa.binary(2), b"\x01\x02", "bytea"),
    "took": (pa.duration("s"), datetime.timedelta(seconds=90), "text"),
    "tags": (pa.list_(pa.string()), ["a", None], "jsonb"),
    "more": (pa.struct([("score", pa.float64()), ("on", pa.date32())]), {"score": 0.5, "on": DAY}, "jsonb"),
}


def test_other_columns_keep_their_values(table: PostgreSQL, tmp_path: Path):
    others = {name: pa.array([value, None], kind) for name, (kind, value, _) in COLUMNS.items()}
    stores.load(write_corpus(tmp_path / "corpus", ["one", "two"], vectors_of(2), others=others), table.url)
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    one, two = table.ask(f"SELECT {names} FROM {table.url.partition('table=')[2]} ORDER BY id")
    wanted = {name: value for name, (_, value, _) in COLUMNS.items()}
    wanted["took"] = "0:01:30"
    wanted["more"] = {"score": 0.5, "on": "2026-01-02"}
    assert dict(zip(COLUMNS, one, strict=True)) == wanted
    assert two == (None,) * len(COLUMNS)
    kinds = dict(
        table.ask(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_name = '{table.url.partition('table=')[2]}'"
        )
    )
    assert kinds == {"id": "text", "vector": "USER-DEFINED", **{name: kind for name, (_, _, kind) in COLUMNS.items()}}


def test_rows_that_are_as_they_were_are_not_written_again(table: PostgreSQL, tmp_path: Path):
    name = table.url.partition("table=")[2]
    vectors = vectors_of(20)
    stores.load(write_corpus(tmp_path / "corpus", np.arange(20), vectors), table.url)
    before = dict(table.ask(f"SELECT id, ctid::text FROM {name}"))
    vectors[3] = vectors_of(1, seed=1)
    stores.load(write_corpus(tmp_path / "corpus", np.arange(20), vectors), table.url)
    after = dict(table.ask(f"SELECT id, ctid::text FROM {name}"))
    assert {id_ for id_ in before if before[id_] != after[id_]} == {3}


def test_half_precision_is_a_halfvec(table: PostgreSQL, tmp_path: Path):
    stores.load(write_corpus(tmp_path / "corpus", np.arange(20), vectors_of(20, dtype=np.float16)), table.url)
    name = table.url.partition("table=")[2]
    kinds = table.ask(f"SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{name}'::regclass")
    assert ("halfvec(8)",) in kinds


def test_the_query_of_the_page_finds_what_numpy_does(table: PostgreSQL, database: str, tmp_path: Path):
    vectors = vectors_of(20)
    stores.load(write_corpus(tmp_path / "corpus", np.arange(20), vectors), table.url)
    (code,) = re.findall(r"^```python\n(with psycopg.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for written, here in (
        ("postgresql://me@localhost/search", database),
        ("FROM texts", f"FROM {table.url.partition('table=')[2]}"),
        ('client_sdk.encode_query("who may use it?")', "vector"),
    ):
        assert code.count(written) == 1
        code = code.replace(written, here)
    names: dict[str, Any] = {"psycopg": psycopg, "pgvector": pgvector, "vector": vectors[3]}
    exec(compile(code, "docs/stores.md", "exec"), names)
    wanted = 1 - vectors @ vectors[3]
    assert [id_ for id_, _, _ in names["rows"]] == np.argsort(wanted)[:10].tolist()
    np.testing.assert_allclose([distance for _, _, distance in names["rows"]], np.sort(wanted)[:10], atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_indexes_of_the_page_serve_its_operators(table: PostgreSQL, database: str, tmp_path: Path, precision: str):
    vectors = vectors_of(20, dtype=np.dtype(precision))
    stores.load(write_corpus(tmp_path / "corpus", np.arange(20), vectors), table.url)
    rows = re.findall(r"^\| (\w+) \| `(\S+)` \| `(\w+)` \| `(\w+)` \|$", PAGE, re.MULTILINE)
    assert {similarity: operator for similarity, operator, *_ in rows} == postgresql._OPERATORS
    name = table.url.partition("table=")[2]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")  # so few rows would be sorted
        for _, operator, *classes in rows:
            connection.execute(f"CREATE INDEX found ON {name} USING hnsw (vector {classes[precision == 'float16']})")
            query = f"SELECT id FROM {name} ORDER BY vector {operator} '{vectors[3].tolist()}' LIMIT 3"
            assert "Index Scan using found" in str(connection.execute(f"EXPLAIN {query}").fetchall()), operator
            connection.execute("DROP INDEX found")


def test_a_table_of_a_schema_that_somebody_made_is_filled(table: PostgreSQL, database: str, tmp_path: Path):
    table.ask("CREATE EXTENSION IF NOT EXISTS vector")
    table.ask('CREATE SCHEMA "Search"')
    table.ask(
        'CREATE TABLE "Search".texts '
        "(title varchar, vector vector, id int UNIQUE NOT NULL, seen timestamptz DEFAULT now())"
    )
    vectors = vectors_of(3)
    stores.load(write_corpus(tmp_path / "corpus", np.arange(3), vectors), f"{database}&table=Search.texts")
    assert table.ask('SELECT id, title, seen IS NOT NULL FROM "Search".texts ORDER BY id') == [
        (id_, f"title of {id_}", True) for id_ in range(3)
    ]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ("id bigint PRIMARY KEY, vector vector(8)", "has no column title; it has id, vector"),
        ("id bigint, title text, vector vector(8)", "no primary key or unique index of id alone"),
        ("id bigint, title text, vector vector(8), PRIMARY KEY (id, title)", "no primary key or unique index of id"),
        ("id bigint PRIMARY KEY, title text, vector vector(3)", r"vector of vector\(3\), and the corpus vector\(8\)"),
        ("id bigint PRIMARY KEY, title text, vector halfvec(8)", r"of halfvec\(8\), and the corpus vector\(8\)"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table: PostgreSQL, tmp_path: Path, columns: str, reason: str):
    table.ask("CREATE EXTENSION IF NOT EXISTS vector")
    table.ask(f"CREATE TABLE {table.url.partition('table=')[2]} ({columns})")
    with pytest.raises(InvalidArgument, match=reason):
        stores.load(write_corpus(tmp_path / "corpus", np.arange(3), vectors_of(3)), table.url)


def test_an_id_that_is_too_long_for_an_index_is_told(table: PostgreSQL, tmp_path: Path):
    id_ = np.random.default_rng(0).bytes(6000).hex()  # which cannot be made shorter
    with pytest.raises(InvalidArgument, match=r"PostgreSQL cannot hold a row: index row"):
        stores.load(write_corpus(tmp_path / "corpus", [id_], vectors_of(1), files=1), table.url)


def test_a_table_that_somebody_holds_is_no_server_that_is_away(table: PostgreSQL, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(postgresql, "_LOCK_TIMEOUT", "100ms")
    corpus = write_corpus(tmp_path / "corpus", np.arange(2), vectors_of(2))
    stores.load(corpus, table.url)
    database, _, name = table.url.partition("&table=")
    with psycopg.connect(database) as other:
        other.execute(f"LOCK TABLE {name}")
        with pytest.raises(ServerBusy, match="PostgreSQL: canceling statement due to lock timeout"):
            stores.load(corpus, table.url)


def test_text_that_postgresql_cannot_hold_is_told(table: PostgreSQL, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", np.arange(2), vectors_of(2), others={"title": ["a", "b\0c"]})
    with pytest.raises(InvalidArgument, match=r"cannot hold a row: .*0x00"):
        stores.load(corpus, table.url)


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("s"), pa.list_(pa.date32())])
def test_a_date_that_python_does_not_have_is_told(table: PostgreSQL, tmp_path: Path, kind: pa.DataType):
    late = 300_000 * 366 * (86_400 if pa.types.is_timestamp(kind) else 1)
    days = pa.array([[late], [0]] if pa.types.is_list(kind) else [late, 0], kind)
    with pytest.raises(InvalidArgument, match="column 'day' has a .* that Python has no value for, such as"):
        stores.load(write_corpus(tmp_path / "corpus", [1, 2], vectors_of(2), others={"day": days}), table.url)


def test_a_name_that_postgresql_would_cut_is_refused(table: PostgreSQL, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", np.arange(2), vectors_of(2), others={"é" * 32: ["a", "b"]})
    with pytest.raises(InvalidArgument, match="names of up to 63 bytes"):
        stores.load(corpus, table.url)


def test_a_wrong_password_is_access_denied_and_not_shown(database: str, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", np.arange(2), vectors_of(2))
    address = database.removeprefix("postgresql://postgres@")
    wrong = f"postgresql://{WITH_PASSWORD}:s3cret@{address}&table=texts"
    with pytest.raises(AccessDenied, match="password authentication failed") as raised:
        stores.load(corpus, wrong)
    assert "s3cret" not in str(raised.value)
    right = f"postgresql://{WITH_PASSWORD}:{quote(PASSWORD, safe='')}@{address}&table=texts"
    with pytest.raises(AccessDenied, match="permission denied for schema public"):
        stores.load(corpus, right)


def test_who_may_write_rows_needs_no_other_right(table: PostgreSQL, database: str, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", np.arange(2), vectors_of(2))
    stores.load(corpus, table.url)
    name = table.url.partition("table=")[2]
    table.ask(f"DELETE FROM {name} WHERE id = 1")
    table.ask(f"GRANT SELECT, INSERT, UPDATE ON {name} TO {WITH_PASSWORD}")
    who = f"postgresql://{WITH_PASSWORD}:{quote(PASSWORD, safe='')}@"
    stores.load(corpus, table.url.replace("postgresql://postgres@", who))
    assert sorted(table.rows()) == [0, 1]


def test_a_server_that_is_not_there_is_unreachable(tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus", np.arange(2), vectors_of(2))
    with pytest.raises(ServerUnreachable, match="PostgreSQL: connection .* failed: No such file or directory"):
        stores.load(corpus, f"postgresql:///search?host={tmp_path}&table=texts")
