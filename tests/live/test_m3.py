"""A family as BGE-M3's beside transformers and PyTorch, which also read the two layers that PyTorch has written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModel, AutoTokenizer

from client_sdk import Client, LocalServer
from export.__main__ import main
from export.checkpoint.torch_file import TorchWeights
from tests.conftest import fill
from tests.support.checkpoints.m3 import COLBERT, FILES, LONGEST, SPARSE, write

torch = pytest.importorskip("torch")

TEXTS = [
    "The value that is returned is the value that was given.",
    "a",
    "<s> literal </s> special <unk> tokens <mask> and <pad>",
    "漢字 that are unknown",
    "one word after another " * 40,
]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("m3")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def own_client(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    repository = tmp_path_factory.mktemp("repository")
    fill(repository, folder, "m3")
    with LocalServer(repository) as server, Client(server.grpc_url, "m3") as client:
        yield client


def computed(folder: Path) -> tuple[np.ndarray, list[dict[int, float]], list[np.ndarray]]:
    """What FlagEmbedding's M3Embedder.encode gives for TEXTS, all of them in one padded batch."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    layers: dict[str, Any] = {}
    for name in ("colbert_linear", "sparse_linear"):
        state = {key: value.float() for key, value in torch.load(folder / f"{name}.pt", weights_only=True).items()}
        layers[name] = torch.nn.Linear(state["weight"].shape[1], state["weight"].shape[0])
        layers[name].load_state_dict(state)
    unused = {
        tokenizer.convert_tokens_to_ids(tokenizer.special_tokens_map[name])
        for name in ("cls_token", "eos_token", "pad_token", "unk_token")
    }
    inputs = tokenizer(TEXTS, truncation=True, max_length=LONGEST, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state
        dense = torch.nn.functional.normalize(states[:, 0], dim=-1)
        weights = torch.relu(layers["sparse_linear"](states)).squeeze(-1)
        mask = inputs["attention_mask"]
        colbert = layers["colbert_linear"](states[:, 1:]) * mask[:, 1:][:, :, None].float()
        colbert = torch.nn.functional.normalize(colbert, dim=-1)
    words: list[dict[int, float]] = []
    for row, row_weights in zip(inputs["input_ids"].tolist(), weights.tolist(), strict=True):
        words.append({})
        for index, weight in zip(row, row_weights, strict=True):
            if index not in unused and weight > words[-1].get(index, 0):
                words[-1][index] = weight
    lengths = mask.sum(dim=1).tolist()
    vectors = [one[: length - 1].numpy() for one, length in zip(colbert, lengths, strict=True)]
    return dense.numpy(), words, vectors


def test_all_three_kinds_are_those_of_pytorch(own_client: Client, folder: Path) -> None:
    dense, words, vectors = computed(folder)
    np.testing.assert_allclose(own_client.encode(TEXTS), dense, rtol=0, atol=TOLERANCE)
    for found, expected in zip(own_client.encode_sparse(TEXTS), words, strict=True):
        assert {*found.indices.tolist()} == {*expected}
        weights = [expected[index] for index in found.indices.tolist()]
        np.testing.assert_allclose(found.weights, weights, rtol=0, atol=TOLERANCE)
    for found, expected in zip(own_client.encode_multi(TEXTS), vectors, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_what_pytorch_writes_today_is_read(tmp_path: Path) -> None:
    for name, values in (("colbert_linear", COLBERT), ("sparse_linear", SPARSE)):
        recorded = torch.load(FILES / f"{name}.pt", weights_only=True)
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            layer = torch.nn.Linear(values["weight"].shape[1], values["weight"].shape[0])
            layer.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()})
            torch.save(layer.to(dtype).state_dict(), tmp_path / "layer.pt")
            found = TorchWeights(tmp_path / "layer.pt")
            for key, value in layer.state_dict().items():
                np.testing.assert_array_equal(found.take(key, tuple(value.shape)), value.float().numpy())
                np.testing.assert_array_equal(recorded[key].float().numpy(), values[key])


def test_an_export_is_verified_with_what_is_beside_dense_vectors(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), "--repository", str(tmp_path / "models"), "--verify"]) == 0
    said = capsys.readouterr().out
    for output in ("token_embeddings", "pooled", "token_weights", "token_vectors"):
        assert f"  {output:16} max |difference| " in said
