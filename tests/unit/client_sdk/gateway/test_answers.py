"""Arrays as JSON and as base64."""

import base64
import json

import numpy as np
import pytest

from client_sdk.gateway.answers import base64_of, json_answer

VECTORS = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)


def test_numbers_are_read_as_what_they_were():
    content = json_answer({"data": [{"embedding": row} for row in VECTORS]})
    found = [item["embedding"] for item in json.loads(content.body)["data"]]
    np.testing.assert_array_equal(np.array(found, np.float32), VECTORS)
    assert content.headers["content-type"] == "application/json"


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8])
def test_base64_holds_the_bytes_little_endian(dtype):
    rows = (VECTORS * 40).astype(dtype)
    little = rows.dtype.newbyteorder("<")
    for given in (rows, rows.astype(rows.dtype.newbyteorder(">")), rows[:, ::2]):
        found = np.frombuffer(base64.b64decode(base64_of(given[3])), little)
        np.testing.assert_array_equal(found, given[3])
