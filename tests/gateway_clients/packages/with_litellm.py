"""litellm."""

import base64

import litellm
import numpy as np
import pytest


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_vectors(url, expected, same, encoding_format):
    """Base64 it gives as it comes."""
    options = {"api_base": f"{url}/v1", "api_key": "none", "encoding_format": encoding_format}
    answer = litellm.embedding("openai/bert", expected.texts, **options)
    rows = [item["embedding"] for item in answer.data]
    if encoding_format == "base64":
        rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows]
    same(rows, expected.bert)
    assert answer.usage.prompt_tokens == expected.tokens


def test_rerank(url, expected):
    answer = litellm.rerank(
        "hosted_vllm/reranker", expected.query, expected.texts, api_base=f"{url}/v1", api_key="none", top_n=2
    )
    ranked = expected.ranked["sigmoid"][:2]
    assert [one["index"] for one in answer.results] == [index for index, *_ in ranked]
    scores = [one["relevance_score"] for one in answer.results]
    assert scores == pytest.approx([score for _, score, _ in ranked], abs=1e-6)


def test_errors_are_its_own(url):
    with pytest.raises(litellm.NotFoundError, match="there is no model 'gpt'"):
        litellm.embedding("openai/gpt", ["text"], api_base=f"{url}/v1", api_key="none", max_retries=0)
