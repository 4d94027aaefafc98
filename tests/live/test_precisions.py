"""The bytes of each precision are those of sentence-transformers."""

import pytest

from client_sdk._call.precision import PRECISIONS, converter
from tests.support import precisions


@pytest.mark.parametrize("dimension", [1, 7, 8, 12, 384])
@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "float16"])
def test_bytes_are_those_of_quantize_embeddings(precision, dimension):
    from sentence_transformers.util import quantize_embeddings

    vectors = precisions.vectors(dimension)
    ranges = precisions.ranges(dimension) if precision.endswith("int8") else None
    expected = quantize_embeddings(vectors, precision, ranges=ranges)
    found = converter(precision, ranges)(vectors)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape) and found.dtype == PRECISIONS[precision]
    assert found.tobytes() == expected.tobytes()
