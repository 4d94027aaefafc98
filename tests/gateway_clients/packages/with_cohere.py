"""cohere."""

import cohere
import pytest


@pytest.fixture
def client(url):
    return cohere.ClientV2(api_key="none", base_url=url)


def test_vectors(client, expected, same):
    answer = client.embed(
        model="bert", texts=expected.texts, input_type="search_document", embedding_types=["float", "int8", "ubinary"]
    )
    same(answer.embeddings.float_, expected.bert)
    assert len(answer.embeddings.int8[0]) == len(expected.bert[0])
    assert len(answer.embeddings.ubinary[0]) == len(expected.bert[0]) / 8
    assert answer.meta.billed_units.input_tokens == expected.tokens


def test_an_input_type(client, expected, same):
    answer = client.embed(model="small", texts=[expected.query], input_type="search_query", embedding_types=["float"])
    same(answer.embeddings.float_[0], expected.small_query)


def test_rerank(client, expected):
    answer = client.rerank(model="reranker", query=expected.query, documents=expected.texts, top_n=2)
    ranked = expected.ranked["sigmoid"][:2]
    assert [one.index for one in answer.results] == [index for index, *_ in ranked]
    scores = [one.relevance_score for one in answer.results]
    assert scores == pytest.approx([score for _, score, _ in ranked], abs=1e-6)


def test_errors_are_its_own(client):
    with pytest.raises(cohere.NotFoundError, match="there is no model 'embed-v4'"):
        client.embed(model="embed-v4", texts=["text"], input_type="search_query", embedding_types=["float"])
    with pytest.raises(cohere.BadRequestError, match="ask for float"):
        client.embed(
            model="bert", texts=["text"], input_type="search_query", embedding_types=["int8"], output_dimension=8
        )
