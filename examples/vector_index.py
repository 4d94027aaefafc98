"""Vectors kept in half the space (float16), on disk and in memory, and searched with an index that skips most of them.

What that loses is measured: recall is the share of the true ten nearest that a search finds. Comparing with every
vector is fine up to some hundred thousand; the index, FAISS's graph of neighbours (HNSW), is for the millions above.

    python -m examples.vector_index    # while `make serve` runs in another terminal
"""

import tempfile
from pathlib import Path

import faiss
import numpy as np

from client_sdk import Client

from .docstrings import labelled_paragraphs

PACKAGES = ["asyncio", "email", "http", "logging", "multiprocessing", "os", "pathlib", "shutil", "unittest", "xml"]
QUESTION = "delete a folder and all that is in it"
QUERIES, NEAREST = 200, 10
LINKS, SEARCHED = 16, 64  # HNSW: neighbours of a vector, candidates of a search; more find more, and cost more
FLOAT16, PRODUCT = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT


def main() -> None:
    """Print sizes, the recall of each way to search, and the answer to a question."""
    texts = np.random.default_rng(0).permutation(labelled_paragraphs(PACKAGES)[0])
    with Client() as client:
        vectors = client.encode(texts)  # [N, D] float32 of length 1, so the inner product is the cosine
        question = client.encode([QUESTION])

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vectors.npy")
        np.save(path, vectors.astype(np.float16))
        saved = path.stat().st_size
        loaded = np.load(path).astype(np.float32)  # FAISS takes float32 in, whatever it keeps
    size = vectors.shape[1]
    print(f"{len(vectors)} vectors of {size}: {vectors.nbytes:,} bytes in float32, {saved:,} in the file")

    exact = faiss.IndexFlatIP(size)
    exact.add(vectors[QUERIES:])  # the first are not in it: they ask
    _, truth = exact.search(vectors[:QUERIES], NEAREST)  # [QUERIES, NEAREST] positions
    indexes = {
        "all, float16": faiss.IndexScalarQuantizer(size, FLOAT16, PRODUCT),
        "HNSW, float16": faiss.IndexHNSWSQ(size, FLOAT16, LINKS, PRODUCT),
    }
    indexes["HNSW, float16"].hnsw.efSearch = SEARCHED
    for name, index in indexes.items():
        index.add(loaded[QUERIES:])
        _, found = index.search(loaded[:QUERIES], NEAREST)
        recall = np.mean([len(np.intersect1d(*pair)) / NEAREST for pair in zip(truth, found, strict=True)])
        print(f"  {name}: recall {recall:.1%} of the {NEAREST} nearest")
    _, (positions,) = index.search(question, 3)
    print(f"nearest to {QUESTION!r}:", *texts[QUERIES:][positions], sep="\n  ")


if __name__ == "__main__":
    main()
