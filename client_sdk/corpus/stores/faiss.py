"""A file of FAISS: an exact index of ids and vectors, held in memory until it is written at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from client_sdk._errors import InvalidArgument
from client_sdk.corpus.stores.destination import path
from client_sdk.corpus.stores.finished import Corpus, Rows

_HALF = faiss.ScalarQuantizer.QT_fp16
_PRECISIONS = {"float32": faiss.IndexFlat, "float16": faiss.IndexScalarQuantizer}
_METRICS = {
    "cosine": faiss.METRIC_INNER_PRODUCT,
    "dot": faiss.METRIC_INNER_PRODUCT,
    "euclidean": faiss.METRIC_L2,
    "manhattan": faiss.METRIC_L1,
}


def destination(url: str) -> Faiss:
    """The file that a URL names; its directory must be there."""
    file = Path(path(url, "faiss:FILE or faiss:///PATH/FILE"))
    if not file.name or file.is_dir() or not file.parent.is_dir():
        raise InvalidArgument(f"{url!r} must name a file in a directory that exists")
    return Faiss(file)


@dataclass(frozen=True)
class Faiss:
    """An index, and `FILE.json` beside it, which says whose vectors are in it."""

    file: Path
    batch_bytes: int = 64 << 20

    @property
    def _about(self) -> Path:
        return self.file.with_name(f"{self.file.name}.json")

    @contextmanager
    def opened(self, corpus: Corpus) -> Iterator[Callable[[Rows], None]]:
        """Reads what is there, without the ids of the corpus; the file is replaced when all have been added."""
        corpus.holdable("FAISS", _PRECISIONS, _METRICS)
        if not corpus.integer_ids:
            raise InvalidArgument(f"FAISS has ids of int64, and {corpus.id_column!r} is of strings")
        new = _empty(corpus)
        index = self._read(corpus, new) if self.file.exists() else new
        ids = np.concatenate([np.empty(0, np.int64), *map(_numbers, corpus.ids())])
        changed = index is new or index.remove_ids(ids) > 0
        unique, counts = np.unique(ids, return_counts=True)
        repeated = unique[counts > 1]

        def write(rows: Rows) -> None:
            nonlocal changed
            changed = True
            numbers = _numbers(rows.ids)
            if len(repeated):  # of a row that was there before, the last one stays
                index.remove_ids(numbers[np.isin(numbers, repeated)])
            index.add_with_ids(_prepared(rows.vectors, corpus.origin.similarity), numbers)

        yield write
        if not changed:
            return
        # It says the same as before, unless there was no index.
        _replace(self._about, lambda file: file.write_text(corpus.origin.to_json(), encoding="utf-8"))
        _replace(self.file, lambda file: faiss.write_index(index, str(file)))

    def _read(self, corpus: Corpus, new: Any) -> Any:
        try:
            index = faiss.read_index(str(self.file))
        except RuntimeError:
            raise InvalidArgument(f"{self.file} is no index that FAISS can read") from None
        about = self._about.read_bytes() if self._about.exists() else None
        corpus.origin.agrees(about, str(self.file), filled=index.ntotal > 0)
        if _kind(index) != _kind(new):
            raise InvalidArgument(f"{self.file} has an index of another kind than a load writes, {_said(new)}")
        return index


def _empty(corpus: Corpus) -> Any:
    metric = _METRICS[corpus.origin.similarity]
    if corpus.origin.precision == "float32":
        return faiss.IndexIDMap2(faiss.IndexFlat(corpus.size, metric))
    if metric == faiss.METRIC_L1:
        raise InvalidArgument("FAISS cannot compare vectors of float16 by similarity manhattan")
    return faiss.IndexIDMap2(faiss.IndexScalarQuantizer(corpus.size, _HALF, metric))


def _kind(index: Any) -> tuple[type, int, int, int, int | None]:
    if not isinstance(index, faiss.IndexIDMap2):
        return type(index), index.d, index.metric_type, 0, None
    inner: Any = faiss.downcast_index(index.index)
    quantizer = getattr(inner, "sq", None)
    return type(index), index.d, index.metric_type, inner.code_size, None if quantizer is None else quantizer.qtype


def _said(index: Any) -> str:
    return f"{type(index).__name__} of {type(faiss.downcast_index(index.index)).__name__}, {index.d} numbers a vector"


def _numbers(ids: pa.Array) -> npt.NDArray[np.int64]:
    try:
        numbers: npt.NDArray[np.int64] = ids.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:  # of unsigned ones
        raise InvalidArgument("FAISS has ids of int64, and the corpus has larger ones") from None
    return numbers


def _prepared(vectors: npt.NDArray[Any], similarity: str) -> npt.NDArray[np.float32]:
    """Of length 1 for the cosine, which is then the inner product."""
    numbers = np.array(vectors, np.float32, order="C")
    if similarity == "cosine":
        faiss.normalize_L2(numbers)
    return numbers


def _replace(file: Path, write: Callable[[Path], object]) -> None:
    """What is under the name is whole at any time, whether this is killed or not."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        write(new)
        with open(new, "rb") as written:
            os.fsync(written.fileno())
        os.replace(new, file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
