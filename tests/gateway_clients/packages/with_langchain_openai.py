"""langchain-openai."""

from pathlib import Path

import llama_index.core
import openai
import pytest
from langchain_openai import OpenAIEmbeddings


def test_vectors(url, expected, same):
    model = OpenAIEmbeddings(model="bert", base_url=f"{url}/v1", api_key="none", check_embedding_ctx_length=False)
    same(model.embed_documents(expected.texts), expected.bert)
    same(model.embed_query(expected.texts[0]), expected.bert_each[0])


def test_token_ids_which_it_sends_by_itself_are_refused_with_the_option_to_set(url, monkeypatch):
    vocabulary = Path(llama_index.core.__file__).parent / "_static" / "tiktoken_cache"  # it would be fetched
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(vocabulary))
    model = OpenAIEmbeddings(model="bert", base_url=f"{url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        model.embed_documents(["hello world"])
