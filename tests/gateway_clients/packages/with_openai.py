"""openai."""

import asyncio

import openai
import pytest


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("encoding_format", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_vectors(client, expected, same, encoding_format):
    """By itself it asks for base64, and decodes it."""
    answer = client.embeddings.create(model="bert", input=expected.texts, **encoding_format)
    rows = [item.embedding for item in answer.data]
    if encoding_format == {"encoding_format": "base64"}:
        assert all(isinstance(row, str) for row in rows)
    else:
        same(rows, expected.bert)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == expected.tokens
    assert answer.model == "bert"


@pytest.mark.parametrize("encoding_format", [{}, {"encoding_format": "float"}])
def test_a_text_alone_bit_for_bit(client, expected, same, encoding_format):
    for text, vector in zip(expected.texts, expected.bert_each, strict=True):
        same(client.embeddings.create(model="bert", input=text, **encoding_format).data[0].embedding, vector)


def test_dimensions_and_a_prompt(client, expected, same):
    answer = client.embeddings.create(model="bert", input=expected.texts, dimensions=64)
    same([item.embedding for item in answer.data], expected.bert_64)
    answer = client.embeddings.create(model="small-query", input=expected.query)
    same(answer.data[0].embedding, expected.small_query)


def test_awaited(url, expected, same):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            return await client.embeddings.create(model="bert", input=expected.texts)

    same([item.embedding for item in asyncio.run(ask()).data], expected.bert)


def test_models(client):
    assert "bert" in [model.id for model in client.models.list()]
    assert client.models.retrieve("bert").owned_by == "bert-on-triton"


def test_errors_are_its_own(client):
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'") as found:
        client.embeddings.create(model="gpt", input="text")
    assert found.value.code == "model_not_found" and found.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model="bert", input=[[1, 2, 3]])
    with pytest.raises(openai.BadRequestError, match="text 1 is blank"):
        client.embeddings.create(model="bert", input=["text", " "])
    with pytest.raises(openai.APIStatusError, match="a request may have 2048") as found:
        client.embeddings.create(model="bert", input=["text"] * 3000)
    assert found.value.status_code == 413
