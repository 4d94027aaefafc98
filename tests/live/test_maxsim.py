"""Late interaction's scores beside those of sentence-transformers."""

import numpy as np
import pytest

from client_sdk import maxsim


@pytest.mark.parametrize("mean", [False, True])
def test_scores_are_those_of_sentence_transformers(mean: bool) -> None:
    from sentence_transformers.util import similarity

    generator = np.random.default_rng(0)
    queries, documents = (
        [generator.standard_normal((length, 128)).astype(np.float32) for length in generator.integers(1, most, count)]
        for most, count in ((33, 20), (200, 300))
    )
    documents[7] = documents[7][:0]  # a document without tokens
    expected = similarity.maxsim(queries, documents, length_normalize=mean).numpy()
    np.testing.assert_allclose(maxsim(queries, documents, mean=mean), expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(maxsim(queries[3], documents, mean=mean), expected[3], rtol=1e-5, atol=1e-4)
