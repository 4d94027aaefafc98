import inspect

import pytest

import client_sdk
from client_sdk import AsyncClient, Client, InvalidType

WRONG = [
    ({"sentences": ["a"]}, r"encode\(\) has no argument sentences: write texts="),
    ({"texts": "a", "normalize_embeddings": True}, "no argument normalize_embeddings: write normalize="),
    ({"texts": "a", "show_progress_bar": True}, "write show_progress="),
    ({"texts": "a", "convert_to_numpy": True}, "convert_to_numpy: leave it out: vectors are always a numpy array"),
    ({"texts": "a", "convert_to_tensor": True}, r"torch.from_numpy\(\)"),
    ({"texts": "a", "output_value": "token_embeddings"}, r"encode_tokens\(\)"),
    ({"texts": "a", "calibration_embeddings": []}, r"write ranges=numpy.stack\(\[embeddings.min"),
    ({"texts": "a", "device": "cuda"}, "chosen at its export"),
    ({"texts": "a", "normalise": True}, "write normalize="),
    ({"texts": "a", "colour": 1}, "it has texts, pooling, normalize"),
    ({}, "missing a required argument: 'texts'"),
]


@pytest.mark.parametrize(("options", "advice"), WRONG)
async def test_a_wrong_name_is_told_the_right_one(options, advice):
    with Client("grpc://127.0.0.1:1") as client:
        for encode in (client.encode, client_sdk.encode):
            with pytest.raises(InvalidType, match=advice):
                encode(**options)
    async with AsyncClient("grpc://127.0.0.1:1") as client:
        with pytest.raises(InvalidType, match=advice):
            await client.encode(**options)


def test_options_go_by_name():
    with Client("grpc://127.0.0.1:1") as client, pytest.raises(InvalidType, match="by position it takes texts, all"):
        client.encode(["a"], "query")


def test_other_calls_say_what_they_have():
    with Client("grpc://127.0.0.1:1") as client, pytest.raises(InvalidType, match=r"precision: .*only what encode\(\)"):
        client.encode_tokens("a", precision="int8")
    with Client("grpc://127.0.0.1:1") as client, pytest.raises(InvalidType, match="no argument pooling; it has texts"):
        client.count_tokens("a", pooling="cls")
    with pytest.raises(InvalidType, match=r"^Client\(\) has no argument host: write url="):
        Client(host="localhost")


def test_signatures_stay_for_editors():
    assert "normalize" in inspect.signature(Client.encode).parameters
    assert inspect.iscoroutinefunction(AsyncClient.encode) and not inspect.iscoroutinefunction(Client.encode)
    assert Client.encode.__doc__.startswith("Encode each text")
