import numpy as np
import pytest

from client_sdk._call.precision import PRECISIONS, converter
from perf.recall import command
from tests.support import precisions


@pytest.mark.parametrize("precision", PRECISIONS)
def test_smaller_vectors_stand_for_values_near_the_larger_ones(precision):
    vectors = precisions.vectors(12)[:150, 1:]
    ranges = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
    kept = converter(precision, ranges if precision in ("int8", "uint8") else None)(vectors)
    found = command.values(kept, precision, ranges, 11)
    if "binary" in precision:
        assert (found == np.where(vectors > 0, 1, -1)).all()
    else:
        assert (np.abs(found - vectors) <= (ranges[1] - ranges[0]) / 255 * 0.51 + 1e-6).all()


def test_recall_is_whole_for_float32_and_falls_with_the_bits():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1200, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries, documents = vectors[:100], vectors[100:]
    rows = command.measured(queries, documents, np.stack([documents.min(axis=0), documents.max(axis=0)]))
    table = {name: (size, plain, rescored) for name, size, plain, rescored in rows}
    assert [*table] == [*PRECISIONS] and table["float32"] == (256, 1, 1)
    assert table["float16"][1] > table["int8"][1] > table["binary"][1] > 0.2
    assert table["int8"][1:] == table["uint8"][1:] and table["binary"] == table["ubinary"]
    assert table["binary"][2] > table["binary"][1]
