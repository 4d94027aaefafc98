"""langchain-cohere, which needs an older cohere than the newest."""

import pytest
from langchain_cohere import CohereRerank
from langchain_core.documents import Document


def test_ranking(url, expected):
    model = CohereRerank(model="reranker", base_url=url, cohere_api_key="none", top_n=2)
    documents = [Document(page_content=text) for text in expected.texts]
    found = model.compress_documents(documents, expected.query)
    ranked = expected.ranked["sigmoid"][:2]
    assert [one.page_content for one in found] == [text for *_, text in ranked]
    scores = [one.metadata["relevance_score"] for one in found]
    assert scores == pytest.approx([score for _, score, _ in ranked], abs=1e-6)
