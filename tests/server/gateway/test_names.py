"""What a request may call its model, on a real server."""

import pytest

from tests.support.servers.gateways import RunningGateway


@pytest.mark.parametrize("model", ["small", "small:1", "small-query", "small-passage", "small-query:1"])
def test_a_name_with_a_version_or_a_prompt_is_found(gateway: RunningGateway, model):
    answer = gateway.post("/v1/embeddings", model=model, input="hello")
    assert (answer.status, answer.json.get("model")) == (200, model)


@pytest.mark.parametrize(
    "model",
    ["", ":", ":1", "-query", "small:", "small:2", "small:01", "small:\u0661", "small:+1", "small-", "small-nothing"]
    + ["small:1-query", "small:" + "9" * 5000, "a\nb", "\x00", "small" * 10_000],
)
@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed", "/v2/embed"])
def test_another_is_not_there_whatever_its_name_is_made_of(gateway: RunningGateway, path, model):
    answer = gateway.post(path, model=model, input="hello", inputs="hello", texts=["hello"])
    assert answer.status == 404, answer.body
    assert len(answer.body) < 1000 and b"bert, colbert" in answer.body
