from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from client_sdk import LocalServer
from client_sdk._server import run
from export.pipeline import export
from export.settings import Request
from tests.support import reference
from tests.support.checkpoints import late_interaction
from tests.support.checkpoints.architectures import CLASSIFIERS, MASKED_LMS, write_classifier, write_masked_lm
from tests.support.checkpoints.folders import (
    VOCABULARY,
    write_bert,
    write_json,
    write_modules,
    write_safetensors,
    write_tokenizer,
)
from tests.support.places import ROOT
from tests.support.servers.gateways import RunningGateway, running_gateway
from tests.support.servers.local_servers import UPPER, make_model, server_for_many_tests
from tests.support.servers.moody_model import make_moody_repository

# A small checkpoint with what all-MiniLM-L6-v2 has not: prompts, a Dense layer, CLS pooling; and no pooler.
PROMPTS = {"query": "find the quick ", "passage": "hello "}
DENSE_SIZE = 5
LABELS = ("good", "bad", "neither")
GRACE_SECONDS = run._GRACE_SECONDS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--live",
        action="store_true",
        help="compute what to compare with, by PyTorch, rather than read what was recorded; only tests that do so",
    )
    parser.addoption("--requests", type=int, default=300, help="of schemathesis to the gateway (default: %(default)s)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --live nothing that goes on as without it."""
    if config.getoption("--live"):
        same = [item for item in items if item.path.parent != ROOT / "tests/live" and "live" not in item.fixturenames]
        config.hook.pytest_deselected(items=same)
        items[:] = [item for item in items if item not in same]


class OneThread(onnxruntime.InferenceSession):
    """Unless it is told otherwise: threads that wait for each other spin, and the workers of pytest take all cores."""

    def __init__(
        self, network: object, sess_options: onnxruntime.SessionOptions | None = None, **options: object
    ) -> None:
        if sess_options is None:
            sess_options = onnxruntime.SessionOptions()
            sess_options.intra_op_num_threads = 1
        super().__init__(network, sess_options, **options)


onnxruntime.InferenceSession = OneThread


def fill(repository: Path, checkpoint: Path, name: str, **options: object) -> None:
    """Exports without progress."""
    export(Request(str(checkpoint), name, repository, **options), step=lambda _: nullcontext())  # type: ignore[arg-type]


@pytest.fixture(scope="session", autouse=True)
def children_end_by_signals() -> Iterator[None]:
    """What a script puts in the background ignores SIGINT, what is behind nohup SIGHUP; so would all started here."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    hang_up = signal.getsignal(signal.SIGHUP)
    if hang_up is signal.SIG_IGN:  # here it stays so; what has a handler is the default in a child
        signal.signal(signal.SIGHUP, lambda number, frame: None)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGHUP, hang_up)


@pytest.fixture(scope="session", autouse=True)
def servers_end_at_once() -> Iterator[None]:
    """Killed: an end in order takes Triton seconds, and only tests that are about it wait for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_GRACE_SECONDS", 0.0)
        yield


@pytest.fixture
def ends_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that start in this test end as those of users do."""
    monkeypatch.setattr(run, "_GRACE_SECONDS", GRACE_SECONDS)


@pytest.fixture(scope="session")
def live(request: pytest.FixtureRequest) -> bool:
    """Whether what is compared with is computed by the libraries themselves."""
    return bool(request.config.getoption("--live"))


@pytest.fixture(scope="session")
def expected(live: bool) -> dict[str, np.ndarray]:
    """The reference arrays of tests/support/reference.py."""
    return reference.compute() if live else reference.load()


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


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A copy of the folder that `make` fills: the first of pytest's workers that needs it makes it for all."""
    ours = factory.getbasetemp()
    made = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / f"{name}_of_all"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            part = made.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)  # of one that failed
            part.mkdir()
            make(part)
            part.rename(made)
    # Each its own, since servers are told apart by the folders that they serve.
    return Path(shutil.copytree(made, factory.mktemp(name), dirs_exist_ok=True))


@pytest.fixture(scope="session")
def bert_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the one family `bert`, all-MiniLM-L6-v2; to be left as it is."""
    return made_once(tmp_path_factory, "bert_repository", lambda folder: fill(folder, reference.checkpoint(), "bert"))


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, bert_repository: Path, small_checkpoint: Path) -> Path:
    """A model repository with the families that the server tests use.

    `bert`: all-MiniLM-L6-v2 as the default export writes it. `layers`: two of its layers, concatenated, without a
    pooler. `small`: the small checkpoint.
    """

    def make(folder: Path) -> None:
        shutil.copytree(bert_repository, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        fill(folder, reference.checkpoint(), "layers", layers=(-2, 0))
        fill(folder, small_checkpoint, "small", max_batch_size=8)

    return made_once(tmp_path_factory, "repository", make)


@pytest.fixture(scope="session")
def gateway_repository(bert_repository: Path, small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family of each kind: `bert`, all-MiniLM-L6-v2; `small`, which has prompts; and of random weights `reranker`, a
    cross-encoder, `sentiment`, a classifier of three labels, `splade`, of sparse vectors, and `colbert`, of late
    interaction.
    """

    def make(repository: Path) -> None:
        shutil.copytree(bert_repository, repository, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        fill(repository, small_checkpoint, "small", max_batch_size=8)
        for name, labels in (("reranker", ("fits",)), ("sentiment", LABELS)):
            folder = tmp_path_factory.mktemp(name)
            settings = {**CLASSIFIERS["bert"], "vocab_size": len(VOCABULARY), "id2label": dict(enumerate(labels))}
            write_classifier(folder, {**settings, "architectures": ["BertForSequenceClassification"]}, "bert.")
            write_tokenizer(folder, VOCABULARY)
            fill(repository, folder, name)
        folder = tmp_path_factory.mktemp("splade")
        settings = {**MASKED_LMS["bert"][0], "vocab_size": len(VOCABULARY), "architectures": ["BertForMaskedLM"]}
        write_masked_lm(folder, settings, "bert.")
        write_tokenizer(folder, VOCABULARY)
        fill(repository, folder, "splade", head="splade")
        folder = tmp_path_factory.mktemp("colbert")
        late_interaction.write(folder, loading={"query_expansion": {"strategy": "fixed", "length": 32}})
        fill(repository, folder, "colbert")

    return made_once(tmp_path_factory, "gateway_models", make)


@pytest.fixture(scope="session")
def gateway_server(gateway_repository: Path) -> Iterator[LocalServer]:
    """Serves it."""
    with server_for_many_tests(gateway_repository) as running:
        yield running


@pytest.fixture(scope="session")
def gateway(gateway_server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """The gateway in front of it."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), gateway_server.grpc_url) as running:
        yield running


@pytest.fixture
def upper_repository(tmp_path: Path) -> Path:
    """A model repository of the test's own, with the model `upper`, which takes no time to load."""
    path = tmp_path / "models"
    make_model(path, "upper", UPPER)
    return path


@pytest.fixture(scope="session")
def moody_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the model of tests/support/servers/moody_model.py; to be left as it is."""
    return make_moody_repository(tmp_path_factory.mktemp("moody"))


@pytest.fixture
def supervisor_log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What supervisors say."""
    caplog.set_level(logging.INFO, "client_sdk.server")
    return caplog


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[LocalServer]:
    """The one tritonserver of the tests."""
    with server_for_many_tests(repository) as running:
        yield running
