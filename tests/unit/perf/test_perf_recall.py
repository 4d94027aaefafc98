import numpy as np
import pytest

from client_sdk._call.precision import PRECISIONS, converter
from perf.recall import command
from tests.support import precisions


@pytest.mark.parametrize("precision", PRECISIONS)
def test_smaller_vectors_stand_for_values_near_the_larger_ones(precision):
    vectors = precisions.vectors(12)[:150, 1:]
    ranges = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
    given = ranges if precision in command.BY_RANGES else None
    kept = converter(precision, given)(vectors)
    found = command.values(kept, precision, given, 11)
    if "binary" in precision:
        assert (found == np.where(vectors > 0, 1, -1)).all()
    else:
        assert (np.abs(found - vectors) <= (ranges[1] - ranges[0]) / 255 * 0.51 + 1e-6).all()


def test_recall_is_whole_for_float32_and_falls_with_the_bits():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1200, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries, documents = vectors[:100], vectors[100:]
    ranges = np.stack([documents.min(axis=0), documents.max(axis=0)])
    rows = command.measured(queries, documents, {"all": ranges, "half": ranges / 2})
    halves = [row for row in rows if row[1] == "half"]
    table = {name: rest for name, of, *rest, _ in rows if of != "half"}
    assert [row[-1] for row in rows if row[1] == "all"] == [0, 0] and all(row[-1] > 5 for row in halves)
    assert [row[0] for row in halves] == ["int8", "uint8"] and halves[0][3] < table["int8"][1]
    assert [*table] == [*PRECISIONS] and table["float32"] == [256, 1, 1]
    assert table["float16"][1] > table["int8"][1] > table["binary"][1] > 0.2
    assert table["int8"][1:] == table["uint8"][1:] and table["binary"] == table["ubinary"]
    assert table["binary"][2] > table["binary"][1]
