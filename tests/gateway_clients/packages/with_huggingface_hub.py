"""huggingface_hub's InferenceClient, which asks the address that it is given."""

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError


@pytest.mark.parametrize("path", ["", "/embed"])
def test_vectors(url, expected, same, path):
    client = InferenceClient(model=f"{url}{path}")
    same(client.feature_extraction(expected.texts), expected.bert)
    same(client.feature_extraction(expected.texts[0])[0], expected.bert_each[0])


def test_similarity(url, expected):
    found = InferenceClient(model=url).sentence_similarity(expected.texts[0], other_sentences=expected.texts)
    assert found == pytest.approx((expected.bert @ expected.bert[0]).tolist(), abs=1e-5)


def test_errors_are_its_own(url):
    with pytest.raises(HfHubHTTPError, match="422"):
        InferenceClient(model=f"{url}/embed").feature_extraction(" ")
