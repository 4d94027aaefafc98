"""A Parquet file is encoded, loaded into stores, and each store is asked in its own words: LanceDB, Qdrant, SQL.

They need `pip install --editable '.[corpus,lance,postgresql,qdrant]'`, and the last of them a database with pgvector:

    python -m examples.searched_stores build/searched postgresql://me@localhost/search    # while `make serve` runs
"""

import subprocess
import sys
from pathlib import Path

import lancedb
import psycopg
import pyarrow as pa
from pgvector import Vector
from pgvector.psycopg import register_vector
from pyarrow import parquet
from qdrant_client import QdrantClient

import client_sdk
from client_sdk.corpus import stores

from .docstrings import labelled_paragraphs

PACKAGES = ["shutil", "pathlib", "tempfile"]
QUESTION = "delete a folder and all that is in it"


def main() -> None:
    """Print the three texts that each store finds nearest to a question."""
    folder, *databases = sys.argv[1:]
    texts, _, files = labelled_paragraphs(PACKAGES)
    Path(folder).mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({"id": range(len(texts)), "text": texts, "file": files}), f"{folder}/texts.parquet")
    encode = f"corpus {folder}/texts.parquet --output {folder}/corpus --id-column id --columns text,file"
    subprocess.run([sys.executable, "-m", "client_sdk", *encode.split()], check=True)
    vector = client_sdk.encode(QUESTION)
    stores.load(f"{folder}/corpus", f"lance:{folder}/lance/texts")
    table = lancedb.connect(f"{folder}/lance").open_table("texts")
    show("LanceDB", [row["text"] for row in table.search(vector).distance_type("cosine").limit(3).to_list()])
    stores.load(f"{folder}/corpus", f"qdrant:{folder}/qdrant/texts")
    qdrant = QdrantClient(path=f"{folder}/qdrant")
    show("Qdrant", [point.payload["text"] for point in qdrant.query_points("texts", query=vector, limit=3).points])
    qdrant.close()
    for database in databases:
        stores.load(f"{folder}/corpus", f"{database}{'&' if '?' in database else '?'}table=texts")
        with psycopg.connect(database) as connection:
            register_vector(connection)
            query = "SELECT text FROM texts WHERE file LIKE '%%.py' ORDER BY vector <=> %s LIMIT 3"
            show("SQL", [text for (text,) in connection.execute(query, [Vector(vector)])])


def show(store: str, texts: list[str]) -> None:
    """Print what was found in a store."""
    print(f"nearest to {QUESTION!r} in {store}:", *texts, sep="\n  ")


if __name__ == "__main__":
    main()
