from __future__ import annotations

import builtins
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from client_sdk import ClientError, InvalidArgument, InvalidType
from client_sdk.corpus.stores import checked

SECRET = "s3cret"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@localhost/search?table=texts",
        "postgres://me:s3cret@localhost:5433/search?sslmode=require&table=public.texts",
        "postgresql:///search?host=/run/postgresql&table=texts",
        "postgresql://one,other:5433/search?target_session_attrs=read-write&table=texts",
        "qdrant://localhost/texts",
        "qdrant://[::1]:6333/texts",
        "qdrant+https://example.cloud:6333/texts",
        "qdrant:///var/lib/vectors/texts",
        "qdrant:vectors/texts",
        "lance:vectors/texts",
        "lance:///var/lib/vectors/texts.lance",
        "lance:s3://bucket/vectors/texts",
        "faiss:texts.faiss",
        "opensearch://localhost:9200/texts",
        "opensearch+https://me:s3cret@example.org/texts",
    ],
)
def test_a_url_is_taken_and_what_it_names_shows_no_password(url: str):
    assert SECRET not in repr(checked(url))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("texts.faiss", "is no store; its URL begins with one of postgresql:, "),
        ("mysql://me:s3cret@localhost/texts", "'mysql:' is no store"),
        ("postgresql://me:s3cret@localhost/search", "must name one table"),
        ("postgresql://me:s3cret@localhost/search?table=", "must name one table"),
        ("postgresql://me:s3cret@localhost/search?table=a&table=b", "must name one table"),
        ('postgresql://me:s3cret@localhost/search?table="Texts"', "table '\"Texts\"' is written without quotes"),
        (
            "postgresql://me:s3cret@localhost/search?table=a.%22Texts%22",
            "table 'a.\"Texts\"' is written without quotes",
        ),
        (
            "postgresql://me:s3cret@x@localhost:port/search?table=texts",
            "URL of the PostgreSQL store cannot be read.* written as %40",
        ),
        ("postgresql://me:x/s3cret@localhost/search?table=texts", "PostgreSQL store cannot be read"),
        ("postgresql://me:12/s3cret@localhost/search?table=texts", "PostgreSQL store cannot be read"),
        ("postgresql://localhost/search?tabel=texts&table=texts&s3cret=1", "PostgreSQL store cannot be read"),
        ("qdrant://localhost", "qdrant://HOST:6333/NAME"),
        ("qdrant://localhost/a/b", "with one name"),
        ("qdrant://localhost:s3cret/a", "qdrant://HOST:6333/NAME"),
        ("qdrant://:s3cret@localhost/a", "QDRANT_API_KEY"),
        ("qdrant:texts", "needs a directory and a name"),
        ("lance:texts", "needs a directory and a name"),
        ("lance://vectors/texts", "would be on another machine"),
        ("faiss:no/such/directory/texts.faiss", "must name a file in a directory that exists"),
        ("faiss:", "must name a file"),
        ("opensearch://me:s3cret@localhost", "opensearch://HOST:9200/NAME"),
        ("opensearch://me:s3cret@localhost/a?b=c", "no more behind it"),
    ],
)
def test_a_wrong_url_is_refused_without_showing_a_password(url: str, reason: str):
    with pytest.raises(InvalidArgument, match=reason) as raised:
        checked(url)
    assert "\n" not in str(raised.value)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_directory_is_no_file_of_faiss(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="must name a file"):
        checked(f"faiss://{tmp_path}")


def test_another_type_is_refused():
    with pytest.raises(InvalidType, match="must be str, not PosixPath"):
        checked(Path("faiss:texts"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("postgres://localhost/search?table=texts", "psycopg", "postgresql"),
        ("postgresql://localhost/search?table=texts", "pgvector", "postgresql"),
        ("qdrant://localhost/texts", "qdrant_client", "qdrant"),
        ("lance:vectors/texts", "lancedb", "lance"),
        ("faiss:texts.faiss", "faiss", "faiss"),
        ("opensearch+https://localhost/texts", "opensearchpy", "opensearch"),
        ("lance:vectors/texts", "pyarrow", "lance"),
    ],
)
def test_what_is_not_installed_is_told_with_its_extra(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
):
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}")
        return real(name, *rest)

    for module in [name for name in sys.modules if name.startswith("client_sdk.corpus.stores.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ClientError, match=rf"No module named '{package}'.*pip install 'bert-on-triton\[corpus,{extra}\]'"
    ):
        checked(url)
