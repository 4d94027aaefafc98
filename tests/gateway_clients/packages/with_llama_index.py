"""llama-index: OpenAI's form, and that of Text Embeddings Inference."""

from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference


def test_openais_form(url, expected, same):
    model = OpenAILikeEmbedding(model_name="bert", api_base=f"{url}/v1", api_key="none")
    same(model.get_text_embedding_batch(expected.texts), expected.bert)
    same(model.get_query_embedding(expected.texts[0]), expected.bert_each[0])


def test_the_form_of_tei(url, expected, same):
    model = TextEmbeddingsInference(model_name="bert", base_url=url, query_instruction="", text_instruction="")
    same(model.get_text_embedding_batch(expected.texts), expected.bert)
    same(model.get_query_embedding(expected.texts[0]), expected.bert_each[0])
