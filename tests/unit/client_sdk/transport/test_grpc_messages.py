import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from client_sdk._transport.base import InferRequest
from client_sdk._transport.grpc.messages import infer_message, read_reply
from client_sdk._transport.tensors import pack_strings, unpack_strings

STRINGS = [b"", b"a", "wörter 中文".encode(), b"x" * 70_000]


def test_strings_are_packed_as_tritonclient_packs_them():
    expected = serialize_byte_tensor(np.array(STRINGS, object)).item()
    assert pack_strings(STRINGS) == expected
    assert list(unpack_strings(expected)) == deserialize_bytes_tensor(expected).tolist() == STRINGS


@pytest.mark.parametrize(
    ("rows", "shape"), [([[b"a"], ["ü".encode()]], [2, 1]), ([[b"a", b"b"], [b"c", b"d"]], [2, 2])]
)
def test_a_request_has_texts_outputs_and_parameters(rows, shape):
    parameters = {"normalize": False, "truncate_dim": 64, "pooling": "cls"}
    message = infer_message(InferRequest("bert", rows, ("EMBEDDING",), parameters))
    assert message.model_name == "bert"
    assert (message.inputs[0].name, message.inputs[0].datatype, list(message.inputs[0].shape)) == (
        "TEXT",
        "BYTES",
        shape,
    )
    assert list(unpack_strings(message.raw_input_contents[0])) == [text for row in rows for text in row]
    assert [output.name for output in message.outputs] == ["EMBEDDING"]
    assert message.parameters["normalize"].WhichOneof("parameter_choice") == "bool_param"
    assert message.parameters["truncate_dim"].int64_param == 64
    assert message.parameters["pooling"].string_param == "cls"


def test_a_reply_is_read_into_arrays():
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    reply = pb.ModelInferResponse(
        outputs=[
            {"name": "EMBEDDING", "datatype": "FP32", "shape": [2, 3]},
            {"name": "TOKEN_COUNT", "datatype": "INT32", "shape": [2, 1]},
            {"name": "TOKENS", "datatype": "BYTES", "shape": [1, 2]},
        ],
        raw_output_contents=[vectors.tobytes(), np.array([4, 5], np.int32).tobytes(), pack_strings([b"a", b"\xff"])],
    )
    arrays = read_reply(reply)
    np.testing.assert_array_equal(arrays["EMBEDDING"], vectors)
    assert arrays["TOKEN_COUNT"].tolist() == [[4], [5]]
    assert arrays["TOKENS"].tolist() == [[b"a", b"\xff"]]
