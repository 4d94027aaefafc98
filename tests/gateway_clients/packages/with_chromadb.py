"""chromadb's two functions."""

from chromadb.utils.embedding_functions import HuggingFaceEmbeddingServer, OpenAIEmbeddingFunction


def test_openais_form(url, expected, same):
    embed = OpenAIEmbeddingFunction(api_key="none", api_base=f"{url}/v1", model_name="bert")
    same(embed(expected.texts), expected.bert)


def test_the_form_of_tei(url, expected, same):
    same(HuggingFaceEmbeddingServer(url=f"{url}/embed")(expected.texts), expected.bert)
