"""Parquet in, Parquet with vectors out, a partition at a time: Dask, here with threads, or with a cluster of yours.

python -m examples.dask_parquet    # while `make serve` runs in another terminal
"""

import tempfile
from pathlib import Path

import dask.dataframe
import numpy as np
import pandas
import pyarrow

from client_sdk import Client, Encoder

from .docstrings import first_paragraphs

PACKAGE, PARTITIONS = "email", 4
SCHEMA = pyarrow.schema(  # which Dask cannot tell of a column of arrays
    [("text", pyarrow.string()), ("file", pyarrow.string()), ("vector", pyarrow.list_(pyarrow.float32()))]
)
QUESTION = "the time zone of a date"


def main() -> None:
    """Print what was written, and the answer to a question."""
    paragraphs = first_paragraphs(PACKAGE)
    texts = pandas.DataFrame({"text": [*paragraphs], "file": [*paragraphs.values()]})
    with tempfile.TemporaryDirectory() as folder:
        source, target = str(Path(folder, "texts")), str(Path(folder, "vectors"))
        dask.dataframe.from_pandas(texts, npartitions=PARTITIONS).to_parquet(source, write_index=False)

        frame = dask.dataframe.read_parquet(source)
        encoder = Encoder(input_type="document")  # of CLIENT_SDK_URL; pickled with what it learns here: which model
        encoded = frame.map_partitions(encoder, meta=encoder(frame._meta))
        encoded.to_parquet(target, schema=SCHEMA, write_index=False)

        files = [*Path(target).glob("*.parquet")]
        encoded = pandas.read_parquet(target)
    vectors = np.stack(encoded["vector"])  # [N, D] float32
    print(f"{len(encoded)} rows in {len(files)} files, vectors {vectors.dtype} of {vectors.shape[1]}")

    with Client() as client:
        scores = vectors @ client.encode_query(QUESTION)
    best = encoded.assign(score=scores).nlargest(3, "score")
    print(f"nearest to {QUESTION!r}:")
    for row in best.itertuples():
        print(f"  {row.score:.2f}  {row.file}: {row.text}")


if __name__ == "__main__":
    main()
