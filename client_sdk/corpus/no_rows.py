"""A corpus as that of a job will be, but for its rows: what a store is asked to hold before the hours of the job."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from client_sdk.corpus.about import AboutVectors
from client_sdk.corpus.encoding import BlockEncoder
from client_sdk.corpus.inputs import block_of
from client_sdk.corpus.output import STATE, for_readers
from client_sdk.corpus.readers import Columns, Rows
from client_sdk.corpus.settings import CorpusSettings


@contextlib.contextmanager
def corpus_of_no_rows(settings: CorpusSettings, about: AboutVectors, columns: Columns) -> Iterator[Path]:
    """Its folder, on this machine, which is gone afterwards.

    Args:
        settings: Of the job.
        about: What its files say of their vectors.
        columns: That are read, with the types of the output.
    """
    none = Rows(0, [], [], [pa.array([], field.type) for field in columns.kept])
    encoded, _ = BlockEncoder(settings, about).encode(block_of(0, none, columns))
    with tempfile.TemporaryDirectory() as folder:
        vectors = Path(folder, "vectors")
        vectors.mkdir()
        pq.write_table(for_readers(encoded, settings.id_column, {}, about), vectors / "none.parquet")
        Path(folder, STATE).write_text(json.dumps({"fingerprint": settings.fingerprint(about.identity)}))
        yield Path(folder)
