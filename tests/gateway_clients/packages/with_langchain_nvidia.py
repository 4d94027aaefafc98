"""langchain-nvidia-ai-endpoints: the class that tells queries from documents."""

import pytest
from langchain_core.documents import Document
from langchain_nvidia_ai_endpoints import NVIDIAEmbeddings, NVIDIARerank


@pytest.mark.filterwarnings("ignore")
def test_vectors(url, expected, same):
    model = NVIDIAEmbeddings(model="small", base_url=f"{url}/v1", truncate="END")
    same(model.embed_query(expected.query), expected.small_query)
    same(model.embed_documents(expected.texts), expected.small_documents)


@pytest.mark.filterwarnings("ignore")
def test_ranking(url, expected):
    model = NVIDIARerank(model="reranker", base_url=f"{url}/v1", top_n=2)
    documents = [Document(page_content=text) for text in expected.texts]
    found = model.compress_documents(documents, expected.query)
    ranked = expected.ranked["none"][:2]
    assert [one.page_content for one in found] == [text for *_, text in ranked]
    scores = [one.metadata["relevance_score"] for one in found]
    assert scores == pytest.approx([score for _, score, _ in ranked], abs=1e-6)
