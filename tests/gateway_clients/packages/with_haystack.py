"""haystack-ai, huggingface-api-haystack and vllm-haystack."""

import pytest
from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
    HuggingFaceTEISparseTextEmbedder,
)
from haystack_integrations.components.embedders.vllm import VLLMDocumentEmbedder, VLLMTextEmbedder
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from haystack_integrations.components.rankers.vllm import VLLMRanker

KEY = Secret.from_token("none")


def embedders(of_text, of_documents, **options):
    return of_text(**options), of_documents(**options, progress_bar=False)


@pytest.fixture(params=["openai", "tei", "vllm"])
def both(request, url):
    """What embeds a text, and what embeds documents."""
    of_openai = {"api_key": KEY, "model": "bert", "api_base_url": f"{url}/v1"}
    of_tei = {"api_type": "text_embeddings_inference", "api_params": {"url": url}, "token": None, "normalize": True}
    made = {
        "openai": lambda: embedders(OpenAITextEmbedder, OpenAIDocumentEmbedder, **of_openai),
        "tei": lambda: embedders(HuggingFaceAPITextEmbedder, HuggingFaceAPIDocumentEmbedder, **of_tei),
        "vllm": lambda: embedders(VLLMTextEmbedder, VLLMDocumentEmbedder, **of_openai),
    }
    return made[request.param]()


def test_vectors(both, expected, same):
    of_text, of_documents = both
    same(of_text.run(expected.texts[0])["embedding"], expected.bert_each[0])
    documents = [Document(content=text) for text in expected.texts]
    same([document.embedding for document in of_documents.run(documents)["documents"]], expected.bert)


def test_sparse_vectors(url, expected):
    found = HuggingFaceTEISparseTextEmbedder(api_base_url=url, token=None).run(expected.texts[0])["sparse_embedding"]
    assert found.indices == expected.sparse["indices"]
    assert found.values == pytest.approx(expected.sparse["weights"], abs=1e-6)


@pytest.mark.parametrize("kind", ["tei", "vllm"])
def test_ranking(url, expected, kind):
    ranker = {
        "tei": lambda: HuggingFaceTEIRanker(url=url, token=None, top_k=2),
        "vllm": lambda: VLLMRanker(model="reranker", api_key=KEY, api_base_url=f"{url}/v1", top_k=2),
    }[kind]()
    found = ranker.run(expected.query, [Document(content=text) for text in expected.texts])["documents"]
    ranked = expected.ranked["sigmoid"][:2]
    assert [one.content for one in found] == [text for *_, text in ranked]
    assert [one.score for one in found] == pytest.approx([score for _, score, _ in ranked], abs=1e-6)
