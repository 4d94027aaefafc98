"""The family of a TensorRT engine on a real server, with ONNX Runtime in the engine's place.

No engine can be built without a GPU. All else is what an export for TensorRT writes: the padded network, the
tokenizer that rounds S up, the ensembles, and an encoder whose requests Triton merges only where S is equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from client_sdk import Client, LocalServer
from export.checkpoint import checkpoint
from export.network import network
from export.pipeline import save
from export.repository.configs import configs
from export.repository.family import ROLES
from export.tensorrt.profiles import Profile
from tests.support import reference
from tests.support.checkpoints.families import MINILM

MULTIPLE = 32
RUN_PADDED = """
import os
import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pooling_mask")


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self.session.get_outputs()]

    def execute(self, requests):
        parts = [[pb_utils.get_input_tensor_by_name(r, name).as_numpy() for name in INPUTS] for r in requests]
        feed = {name: np.concatenate(arrays) for name, arrays in zip(INPUTS, zip(*parts))}  # S must be equal
        results = self.session.run(None, feed)
        responses, start = [], 0
        for request, (ids, *_) in zip(requests, parts):
            rows = slice(start, start := start + len(ids))
            tensors = [
                pb_utils.Tensor(name, np.ascontiguousarray(result[rows]))
                for name, result in zip(self.outputs, results)
                if name in request.requested_output_names()
            ]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
"""


@pytest.fixture(scope="module")
def padded_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Serves all-MiniLM-L6-v2 as the family `padded`."""
    target = tmp_path_factory.mktemp("padded")
    source = checkpoint.load(str(reference.checkpoint()))
    family = replace(
        MINILM,
        name="padded",
        backend="tensorrt",
        gpus=(),
        profiles=(Profile(1, 32), Profile(33, 256)),
        pad_to_multiple_of=MULTIPLE,
    )
    for (name, text), role in zip(configs(family).items(), ROLES, strict=True):
        version = target / name / "1"
        version.mkdir(parents=True)
        config = text_format.Parse(text, ModelConfig())
        if role == "_encoder":
            config.backend = "python"
            config.ClearField("optimization")
            (group,) = config.instance_group
            group.kind = ModelInstanceGroup.KIND_CPU
            group.ClearField("profile")
            (version / "model.py").write_text(RUN_PADDED)
            save(network.build(source.encoder, source.weights, (-1,), True, is_padded=True), version / "model.onnx")
        elif role in ("_tokenizer", "_pooling"):
            for file in (repository / f"bert{role}" / "1").glob("*.*"):
                (version / file.name).write_bytes(file.read_bytes())
            if role == "_tokenizer":
                warmup = repository / "bert_tokenizer/warmup/text"
                (target / name / "warmup").mkdir()
                (target / name / "warmup/text").write_bytes(warmup.read_bytes())
        (target / name / "config.pbtxt").write_text(text_format.MessageToString(config))
    with LocalServer(target) as server:
        yield server


@pytest.fixture(scope="module")
def client(padded_server: LocalServer) -> Iterator[Client]:
    with Client(padded_server.grpc_url, model="padded") as client:
        yield client


def tokenized(server: LocalServer, texts: list[str]) -> dict[str, np.ndarray]:
    tensor = triton.InferInput("TEXT", [len(texts), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()] for text in texts], object))
    with triton.InferenceServerClient(server.grpc_url.removeprefix("grpc://")) as grpc:
        result = grpc.infer("padded_tokenizer", [tensor])
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def test_vectors_equal_sentence_transformers(client, texts, expected):
    np.testing.assert_allclose(client.encode(texts), expected["sentence"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "length"), [(1, 32), (30, 32), (31, 64), (62, 64), (100, 128), (222, 224), (240, 256), (300, 256)]
)
def test_the_tokenizer_rounds_up_and_never_above_max_seq_len(padded_server, words, length):
    found = tokenized(padded_server, ["word " * words, "two words"])
    tokens = min(words + 2, 256)
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes.pop("TOKEN_COUNT") == shapes.pop("DECODED_TEXT") == (2, 1)
    assert set(shapes.values()) == {(2, length)}
    assert found["attention_mask"].sum(axis=1).tolist() == [tokens, 4]
    assert (found["attention_mask"] == found["pooling_mask"]).all()
    assert (found["attention_mask"][0, :tokens] == 1).all()
    for name in ("input_ids", "token_type_ids"):
        assert not found[name][found["attention_mask"] == 0].any()
    assert [token for token in found["TOKENS"][1] if token] == [b"[CLS]", b"two", b"words", b"[SEP]"]


def test_token_vectors_come_without_the_padding(client, texts):
    some = texts[:20]
    counts = client.count_tokens(some)
    for result, count in zip(client.encode_tokens(some), counts, strict=True):
        assert len(result.tokens) == len(result.vectors) == min(count, 256)


def test_requests_of_unlike_lengths_are_served_right_side_by_side(client, texts, expected):
    with ThreadPoolExecutor(16) as pool:
        vectors = list(pool.map(lambda text: client.encode(text), texts[:160]))
    np.testing.assert_allclose(vectors, expected["sentence"][:160], rtol=0, atol=1e-5)
