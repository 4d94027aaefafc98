"""Requests that no client should send, over HTTP and gRPC, the same ones for the same seed.

Each is a request that is right but for one or two things (a shape, a datatype, a length, a name, a parameter), or is
no request at all: bytes, half of a body, JSON that is something else.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tritonclient.grpc.service_pb2 as messages
from google.protobuf.message import DecodeError

FAMILY = ("bert", "bert_tokens", "bert_tokenizer", "bert_encoder", "bert_pooling")
OUTPUTS = (
    *("EMBEDDING", "TOKEN_COUNT", "TOKEN_EMBEDDING", "TOKENS", "DECODED_TEXT", "input_ids", "pooled"),
    *("nothing", "", "\0"),
)
DATATYPES = ("BYTES", "INT32", "FP32", "INT64", "FP64", "FP16", "BF16", "BOOL", "UINT8", "nonsense", "", "bytes")
PARAMETERS = (
    *("pooling", "normalize", "truncate_dim", "activation", "max_seq_len", "truncate", "prompt", "prompt_name"),
    *("input_type", "max_active_dims"),
    *(
        "truncation_side",
        "pair_truncation",
        "add_special_tokens",
        "split_special_tokens",
        "skip_special_tokens",
        "mask_cls_sep",
        "bulk",
        "identity",
    ),
    "is_tokenized",
    *("priority", "timeout", "sequence_id", "sequence_start", "binary_data_output", "unknown", "", "\0", "x" * 5000),
    *("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "classification"),
)
NUMBERS = (0, 1, -1, 2, 3, 7, 64, 65, 1000, 2**31 - 1, 2**31, 2**32, 2**63 - 1, -(2**31), -(2**63), 10**30)
STRINGS = (
    *(
        "",
        " ",
        "a text",
        "mean",
        "cls",
        "pooler",
        "\0",
        "\ud800",
        "[CLS]",
        "../../etc/passwd",
        "é" * 300,
        "word " * 600,
    ),
    *("[" * 2000, '["a", "b"]', '["|||"]', "[]", "{}", "\u202e", "\U0010ffff", "%s%n", "x" * 70_000),
)
BAD_UTF8 = (b"\xff", b"\xc3", b"ab\x80cd", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\xaf" * 50)
MOST_VALUES = 1 << 20
"""In the shape of a JSON tensor: tritonserver 2.51 takes memory for them all before it looks for them, and ends."""


@dataclass(frozen=True)
class HttpRequest:
    """`sent` is how much of `body` is sent before the connection is closed; None: all, and an answer is due."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    sent: int | None = None


@dataclass(frozen=True)
class GrpcRequest:
    """The bytes of a message for a method."""

    method: str
    message: bytes


class Generator:
    """Makes them; `next_http` and `next_grpc` as often as is wanted.

    What is known to end tritonserver 2.51, whatever it serves, is left out; tests/slow/test_fuzz.py has it. So is,
    unless `lies`, a BYTES tensor whose strings are longer or shorter than it says: the Python backend of 2.51 then
    fails all the requests of a batch, and later releases look at it before.
    """

    def __init__(self, seed: int, *, lies: bool = False) -> None:
        self._chance = random.Random(seed)
        self._lies = lies

    def next_http(self) -> HttpRequest:
        """The next one over HTTP."""
        make: Callable[[], HttpRequest] = self._chance.choice(
            [self._mutated] * 6 + [self._binary] * 3 + [self._no_json, self._cut_short, self._elsewhere, self._headers]
        )
        return make()

    def next_grpc(self) -> GrpcRequest:
        """The next one over gRPC."""
        if self._chance.random() < 0.1:
            return GrpcRequest(self._chance.choice(["ModelInfer", "ModelConfig", "ServerMetadata"]), self._noise(300))
        if self._chance.random() < 0.1:
            return self._grpc_question()
        while True:
            message = self._grpc_infer().SerializeToString()
            if self._chance.random() < 0.15:
                message = self._damaged(message)
            if self._lies or not _lies(message):
                return GrpcRequest("ModelInfer", message)

    # Right requests

    def _right(self, model: str) -> dict[str, Any]:
        count = self._chance.choice([1, 1, 2, 5])
        width = self._chance.choice([3, 8])
        if model == "bert_pooling":
            return {
                "inputs": [
                    _tensor("pooled", [count, 4, 384], "FP32", [0.5] * (count * 4 * 384)),
                    _tensor("pooler_output", [count, 384], "FP32", [0.5] * (count * 384)),
                ]
            }
        if model == "bert_encoder":
            names = ("input_ids", "attention_mask", "token_type_ids", "pooling_mask")
            return {
                "inputs": [
                    _tensor(name, [count, width], "INT32", [name != "token_type_ids"] * (count * width))
                    for name in names
                ]
            }
        texts = [f"text {i}" for i in range(count)]
        return {"inputs": [_tensor("TEXT", [count, 1], "BYTES", texts)]}

    # HTTP

    def _mutated(self) -> HttpRequest:
        model = self._chance.choice(FAMILY)
        request = self._right(model)
        for _ in range(self._chance.choice([1, 1, 2])):
            self._mutate(request)
        body = json.dumps(request).encode()
        return HttpRequest("POST", f"/v2/models/{model}/infer", body=body)

    def _mutate(self, request: dict[str, Any]) -> None:
        tensors = request.get("inputs")
        tensor = self._chance.choice(tensors) if isinstance(tensors, list) and tensors else {}
        if not isinstance(tensor, dict):
            tensor = {}
        data = tensor.get("data")
        choice = self._chance.randrange(12)
        if choice == 0:
            tensor["shape"] = self._shape(MOST_VALUES)  # see MOST_VALUES
        elif choice == 1:
            tensor["datatype"] = self._chance.choice([*DATATYPES, None, 7])
        elif choice == 2:
            tensor["name"] = self._chance.choice([*OUTPUTS, None, "TEXT", "x" * 9000])
        elif choice == 3 and isinstance(data, list) and data:
            data[self._chance.randrange(len(data))] = self._value()
        elif choice == 4 and isinstance(data, list):
            tensor["data"] = self._chance.choice([[], data[:-1], data * 3, [data], [[data]], None, "text", {}, 1])
        elif choice == 5:
            request["outputs"] = self._chance.choice(
                [[{"name": name} for name in self._chance.sample(OUTPUTS, 2)], [], {}, None, [None], "EMBEDDING"]
            )
        elif choice in (6, 7, 8):
            names = self._chance.sample(PARAMETERS, self._chance.choice([1, 2, 5]))
            request["parameters"] = {name: self._value() for name in names}
        elif choice == 9:
            tensor["parameters"] = {self._chance.choice(PARAMETERS): self._value()}
        elif choice == 10:
            request["inputs"] = self._chance.choice([[], None, {}, [None], [tensor, tensor], [tensor] * 50])
        else:
            request["id"] = self._value()

    def _binary(self) -> HttpRequest:
        """TEXT in Triton's binary form, whose lengths may lie."""
        texts = [self._chance.choice([b"a text", b"", *BAD_UTF8]) for _ in range(self._chance.choice([1, 1, 3]))]
        lengths = [self._length(len(text)) if self._lies else len(text) for text in texts]
        content = b"".join(struct.pack("<I", length) + text for length, text in zip(lengths, texts, strict=True))
        size = len(content)  # more than there is ends tritonserver 2.51
        tensor = {
            "name": "TEXT",
            "shape": [len(texts), 1],
            "datatype": "BYTES",
            "parameters": {"binary_data_size": size},
        }
        head = json.dumps({"inputs": [tensor]}).encode()
        length = self._length(len(head))
        model = self._chance.choice(FAMILY[:3])
        return HttpRequest(
            "POST", f"/v2/models/{model}/infer", {"Inference-Header-Content-Length": str(length)}, head + content
        )

    def _no_json(self) -> HttpRequest:
        model = self._chance.choice(FAMILY)
        body = self._chance.choice(
            [
                self._noise(500),
                b"",
                b"null",
                b"[]",
                b"0",
                b'"',
                b"{" * 300,
                b"[" * 900,
                b"\xef\xbb\xbf{}",
                b'{"inputs":',
            ]
        )
        return HttpRequest("POST", f"/v2/models/{model}/infer", body=body)

    def _cut_short(self) -> HttpRequest:
        whole = self._mutated()
        return HttpRequest(whole.method, whole.path, whole.headers, whole.body, self._chance.randrange(len(whole.body)))

    def _elsewhere(self) -> HttpRequest:
        path = self._chance.choice(
            [
                *("/v2/models//infer", "/v2/models/bert/versions/x/infer", "/v2/models/bert/versions/99/infer"),
                *(
                    "/v2/models/bert/versions/-1/infer",
                    "/v2/models/%00/infer",
                    "/v2/models/../../infer",
                    "/",
                    "//",
                    "/v2/x",
                ),
                *("/v2/models/bert/generate", "/v2/models/bert/generate_stream", "/v2/models/" + "x" * 3000 + "/infer"),
                *(
                    "/v2/repository/index",
                    "/v2/systemsharedmemory/region/r/register",
                    "/v2/trace/setting",
                    "/v2/logging",
                ),
            ]
        )
        method = self._chance.choice(["POST", "GET", "PUT", "DELETE", "HEAD"])
        return HttpRequest(method, path, body=b"{}" if method != "HEAD" else b"")

    def _headers(self) -> HttpRequest:
        whole = self._mutated()
        headers = self._chance.choice(
            [
                {"Content-Encoding": "gzip"},
                {"Content-Encoding": "deflate"},
                {"Content-Encoding": "nonsense"},
                {"Accept-Encoding": "gzip;q=x,,"},
                {"Content-Type": "application/octet-stream"},
                {"Inference-Header-Content-Length": "-1"},
                {"Inference-Header-Content-Length": "nonsense"},
                {"Inference-Header-Content-Length": str(2**70)},
                {"traceparent": "00-" + "z" * 500},
                {"X-Long": "x" * 20_000},
            ]
        )
        return HttpRequest(whole.method, whole.path, headers, whole.body)

    # gRPC

    def _grpc_infer(self) -> Any:
        model = self._chance.choice(FAMILY)
        message = messages.ModelInferRequest(model_name=model)
        for tensor in self._right(model)["inputs"]:
            raw = _raw(tensor)
            message.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
            message.raw_input_contents.append(raw)
        for _ in range(self._chance.choice([1, 1, 2])):
            self._mutate_message(message)
        return message

    def _mutate_message(self, message: Any) -> None:
        tensor = self._chance.choice(list(message.inputs)) if message.inputs else message.inputs.add()
        choice = self._chance.randrange(10)
        if choice == 0:
            del tensor.shape[:]
            tensor.shape.extend(int(n) for n in self._shape(2**600) if isinstance(n, int) and -(2**63) <= n < 2**63)
        elif choice == 1:
            tensor.datatype = self._chance.choice(DATATYPES)
        elif choice == 2:
            tensor.name = self._chance.choice([*OUTPUTS, "TEXT", "x" * 9000])
        elif choice in (3, 4) and message.raw_input_contents:
            place = self._chance.randrange(len(message.raw_input_contents))
            raw = message.raw_input_contents[place]
            text = self._chance.choice(BAD_UTF8)
            message.raw_input_contents[place] = self._chance.choice(
                [b"", raw[:-1], raw * 2, self._noise(80), struct.pack("<I", self._length(len(text))) + text]
            )
        elif choice == 5:
            del message.raw_input_contents[:]
            tensor.contents.bytes_contents.append(self._chance.choice(BAD_UTF8))
            tensor.contents.int_contents.extend([1, -1, 2**31 - 1])
        elif choice in (6, 7):
            for name in self._chance.sample(PARAMETERS, 2):
                self._set(message.parameters[name])
        elif choice == 8:
            for name in self._chance.sample(OUTPUTS, 2):
                parameter = self._chance.choice(PARAMETERS)
                if (name, parameter) != ("TOKENS", "classification"):  # of strings: it ends tritonserver 2.51
                    self._set(message.outputs.add(name=name).parameters[parameter])
        else:
            message.model_version = self._chance.choice(["", "1", "99", "-1", "x", "1" * 300])
            self._set(tensor.parameters[self._chance.choice(PARAMETERS)])

    def _set(self, parameter: Any) -> None:
        kind = self._chance.randrange(4)
        if kind == 0:
            parameter.bool_param = self._chance.random() < 0.5
        elif kind == 1:
            parameter.int64_param = self._chance.choice([n for n in NUMBERS if -(2**63) <= n < 2**63])
        elif kind == 2:
            parameter.string_param = self._chance.choice([text for text in STRINGS if text != "\ud800"])
        else:
            parameter.double_param = self._chance.choice([0.0, -1.5, float("nan"), float("inf"), 1e300])

    def _grpc_question(self) -> GrpcRequest:
        name = self._chance.choice([*FAMILY, "", "\0", "x" * 3000, "../bert"])
        method, kind = self._chance.choice(
            [
                ("ModelConfig", messages.ModelConfigRequest(name=name, version="x")),
                ("ModelMetadata", messages.ModelMetadataRequest(name=name, version="99")),
                ("ModelStatistics", messages.ModelStatisticsRequest(name=name)),
                ("ModelReady", messages.ModelReadyRequest(name=name, version="-1")),
                ("RepositoryModelUnload", messages.RepositoryModelUnloadRequest(model_name="nothing")),
                ("SystemSharedMemoryRegister", messages.SystemSharedMemoryRegisterRequest(name=name, byte_size=2**60)),
            ]
        )
        return GrpcRequest(method, kind.SerializeToString())

    # Values

    def _shape(self, most: int) -> list[Any]:
        dims: list[Any] = []
        for _ in range(self._chance.choice([0, 1, 2, 2, 3, 9])):
            dims.append(self._chance.choice([*NUMBERS, 1, 2, 384]))
            if abs(math.prod(dims)) > most:
                dims[-1] = 1
        if self._chance.random() < 0.1:
            dims.append(self._chance.choice([1.5, "1", None, [1]]))
        return dims

    def _value(self) -> Any:
        return self._chance.choice(
            [*NUMBERS, *STRINGS, True, False, None, 0.5, -1.5e300, [], [1], {}, {"a": {"b": []}}, [[[[[]]]]]]
        )

    def _length(self, right: int) -> int:
        return self._chance.choice([right, right, right, 0, 1, right - 1, right + 1, 2**31 - 1, 2**32 - 1]) & 0xFFFFFFFF

    def _noise(self, most: int) -> bytes:
        return self._chance.randbytes(self._chance.randrange(1, most))

    def _damaged(self, message: bytes) -> bytes:
        changed = bytearray(message)
        for _ in range(self._chance.choice([1, 3, 20])):
            changed[self._chance.randrange(len(changed))] = self._chance.randrange(256)
        return bytes(changed[: self._chance.randrange(1, len(changed) + 1)])


def _lies(message: bytes) -> bool:
    """Whether a gRPC message has a BYTES tensor that is not made of as many strings as its shape says."""
    try:
        request = messages.ModelInferRequest.FromString(message)
    except DecodeError:
        return False
    raw = dict(enumerate(request.raw_input_contents))
    for place, tensor in enumerate(request.inputs):
        if tensor.datatype == "BYTES" and raw and _strings(raw.get(place, b"")) != math.prod(tensor.shape):
            return True
    return False


def _strings(raw: bytes) -> int | None:
    """How many strings, each behind its length, these bytes are; None if they are something else."""
    count = start = 0
    while start + 4 <= len(raw):
        start += 4 + int.from_bytes(raw[start : start + 4], "little")
        count += 1
    return count if start == len(raw) else None


def _tensor(name: str, shape: list[int], datatype: str, data: list[Any]) -> dict[str, Any]:
    data = [int(value) if isinstance(value, bool) else value for value in data]
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def _raw(tensor: dict[str, Any]) -> bytes:
    if tensor["datatype"] == "BYTES":
        return b"".join(struct.pack("<I", len(text)) + text.encode() for text in tensor["data"])
    return struct.pack(f"<{len(tensor['data'])}{'i' if tensor['datatype'] == 'INT32' else 'f'}", *tensor["data"])
