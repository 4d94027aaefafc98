"""Small finished corpora, as `bert-on-triton corpus` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

DIMENSION = 8


def vectors_of(rows: int, *, seed: int = 0, dtype: Any = np.float32) -> npt.NDArray[Any]:
    """[rows, DIMENSION] of length 1 in float32, or what another type makes of them."""
    drawn = np.random.default_rng(seed).standard_normal((rows, DIMENSION))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return (100 * drawn).astype(dtype) if np.dtype(dtype).kind in "iu" else drawn.astype(dtype)


def write_corpus(
    folder: Path,
    ids: Any,
    vectors: npt.NDArray[Any],
    *,
    files: int = 2,
    others: dict[str, Any] | None = None,
    id_column: str = "id",
    **origin: Any,
) -> Path:
    """The folder, in which the rows are shared out among files; `others` are columns, else `title`."""
    (folder / "vectors").mkdir(parents=True, exist_ok=True)
    width = vectors.shape[1]
    columns = {
        id_column: pa.array(ids),
        **({"title": pa.array([f"title of {id_}" for id_ in ids], pa.string())} if others is None else others),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width),
    }
    table = pa.table(columns)
    about = {
        "id_column": id_column,
        "vector_column": "vector",
        "model": "bert",
        "identity": "of bert",
        "similarity": "cosine",
        "precision": str(vectors.dtype),
        "dimension": width,
        **origin,
    }
    table = table.replace_schema_metadata({"bert-on-triton": json.dumps(about)})
    step = -(-len(table) // files)
    for number in range(files):
        pq.write_table(table.slice(number * step, step), folder / "vectors" / f"{number:05}.parquet")
    return folder
