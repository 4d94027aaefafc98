from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from client_sdk import LocalServer
from export.pipeline import Request, export
from tests import reference
from tests.unit.checkpoints import write_bert, write_json, write_modules, write_safetensors

# A small checkpoint with what all-MiniLM-L6-v2 has not: prompts, a Dense layer, CLS pooling; and no pooler.
PROMPTS = {"query": "find the quick ", "passage": "hello "}
DENSE_SIZE = 5


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--live",
        action="store_true",
        help="compute what to compare with, by PyTorch, rather than read what was recorded",
    )


def fill(repository: Path, checkpoint: Path, name: str, **options: object) -> None:
    """Exports without progress."""
    export(Request(str(checkpoint), name, repository, **options), step=lambda _: nullcontext())  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def expected(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    """The reference arrays of tests/reference.py."""
    return reference.compute() if request.config.getoption("--live") else reference.load()


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """500 real sentences of mixed lengths."""
    return reference.texts()


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder with random weights, see PROMPTS and DENSE_SIZE."""
    folder = tmp_path_factory.mktemp("small")
    write_bert(folder, pooler=False)
    write_modules(
        folder,
        ("sentence_transformers.models.Pooling", {"word_embedding_dimension": 32, "pooling_mode": "cls"}),
        (
            "sentence_transformers.models.Dense",
            {
                "in_features": 32,
                "out_features": DENSE_SIZE,
                "activation_function": "torch.nn.modules.activation.Tanh",
            },
        ),
        ("sentence_transformers.models.Normalize", None),
        settings={"max_seq_length": 40},
    )
    rng = np.random.default_rng(1)
    write_safetensors(
        folder / "2_Dense",
        {
            "linear.weight": rng.standard_normal((DENSE_SIZE, 32)).astype(np.float32),
            "linear.bias": rng.standard_normal(DENSE_SIZE).astype(np.float32),
        },
    )
    write_json(folder / "config_sentence_transformers.json", {"prompts": PROMPTS, "default_prompt_name": "passage"})
    return folder


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, small_checkpoint: Path) -> Path:
    """A model repository with the families that the server tests use.

    `bert`: all-MiniLM-L6-v2 as the default export writes it. `layers`: two of its layers, concatenated, without a
    pooler. `small`: the small checkpoint.
    """
    repository = tmp_path_factory.mktemp("repository")
    fill(repository, reference.checkpoint(), "bert")
    fill(repository, reference.checkpoint(), "layers", layers=(-2, 0))
    fill(repository, small_checkpoint, "small", max_batch_size=8)
    return repository


@pytest.fixture(scope="session")
def bert_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the one family `bert`, all-MiniLM-L6-v2; to be left as it is."""
    repository = tmp_path_factory.mktemp("bert_repository")
    fill(repository, reference.checkpoint(), "bert")
    return repository


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[LocalServer]:
    """The one tritonserver of the tests."""
    with LocalServer(repository) as running:
        yield running


@pytest.fixture(scope="session")
def bert_as_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A tritonserver with families as bert-as-service served them.

    `default`: all-MiniLM-L6-v2 as `bert-serving-start` without options has it. `layer-2`, `layers-1-2` and
    `layers-1-2-3-4`: its layers, up to 512 tokens. `tiny-2`, `tiny-1`, `tiny-1-2`: the tiny Chinese checkpoint's.
    """
    repository = tmp_path_factory.mktemp("bert_as_service")
    tiny = reference.DATA / "tiny_google_bert_zh"
    fill(repository, reference.checkpoint(), "default", layers=(-2,), max_seq_len=25, pooling="mean", normalize=False)
    fill(repository, reference.checkpoint(), "layer-2", layers=(-2,), max_seq_len=512, pooling="pooler")
    fill(repository, reference.checkpoint(), "layers-1-2", layers=(-1, -2), max_seq_len=512)
    fill(repository, reference.checkpoint(), "layers-1-2-3-4", layers=(-1, -2, -3, -4), max_seq_len=512)
    fill(repository, tiny, "tiny-2", layers=(-2,))
    fill(repository, tiny, "tiny-1", layers=(-1,))
    fill(repository, tiny, "tiny-1-2", layers=(-1, -2))
    with LocalServer(repository) as running:
        yield running
