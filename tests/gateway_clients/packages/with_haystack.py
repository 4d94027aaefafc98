"""haystack-ai."""

from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret


def test_vectors(url, expected, same):
    options = {"api_key": Secret.from_token("none"), "model": "bert", "api_base_url": f"{url}/v1"}
    found = OpenAITextEmbedder(**options).run(expected.texts[0])
    same(found["embedding"], expected.bert_each[0])
    documents = [Document(content=text) for text in expected.texts]
    found = OpenAIDocumentEmbedder(**options, progress_bar=False).run(documents)
    same([document.embedding for document in found["documents"]], expected.bert)
