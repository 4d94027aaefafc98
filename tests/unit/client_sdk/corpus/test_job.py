"""What a job asks before it begins, what it tells, and what it says of Ray's errors: without Ray and servers."""

import sys
import threading
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.data.exceptions import SystemException
from ray.exceptions import RayError

from client_sdk import ClientError, InvalidArgument, ModelInfo, ServerBusy, VersionChanged
from client_sdk._call.questions import Measured
from client_sdk._session import Session
from client_sdk._settings import make_settings
from client_sdk.corpus import CorpusSettings, Estimate, Summary, progress
from client_sdk.corpus.about import ask_about
from client_sdk.corpus.engine import own_errors, ray_running
from client_sdk.corpus.progress import line, told
from client_sdk.corpus.tally import Counts, Standing
from tests.support.patience import PATIENCE

INFO: dict[str, Any] = {
    "model": "bert",
    "version": 1,
    "versions": (1,),
    "dimension": 384,
    "max_seq_len": 256,
    "pooling": "mean",
    "normalize": True,
    "layers": (-1,),
    "max_batch_size": 64,
    "prompts": {},
    "default_prompt_name": None,
    "backend": "python",
    "server_version": "2.51",
    "identity": "abc",
    "kinds": {"dense": 384},
}


def settings(**options: Any) -> CorpusSettings:
    return CorpusSettings(["in"], "out", make_settings("localhost:1", "bert"), id_column="doc", options=options)


@pytest.fixture
def served(monkeypatch):
    """served(**info): what the server says of its model, which gives vectors of two numbers."""

    def served(**info: Any) -> None:
        monkeypatch.setattr(Session, "info", lambda self, deadline: ModelInfo(**{**INFO, **info}))
        monkeypatch.setattr(Session, "encode", lambda self, texts, options: np.zeros((len(texts), 2), np.float32))

    return served


def test_the_output_says_what_its_vectors_are(served):
    served(similarity="dot")
    _, about = ask_about(settings(max_seq_len=128))
    assert (about.id_column, about.vector_column, about.identity, about.similarity) == ("doc", "vector", "abc", "dot")
    assert (about.dimension, about.max_seq_len, about.precision) == (2, 128, "float32")


@pytest.mark.parametrize(
    ("kinds", "gives"),
    [
        ({"scores": 1}, r"scores \(score, rerank, classify\)"),
        ({"sparse": 9}, r"sparse vectors \(encode_sparse\)"),
        ({"multi": 8}, r"vectors for late interaction \(encode_multi\)"),
        ({"sparse": 9, "multi": 8}, "sparse vectors .* and vectors for late interaction .*"),
    ],
)
def test_a_family_that_gives_something_else_is_refused(served, kinds, gives):
    served(kinds=kinds)
    with pytest.raises(InvalidArgument, match=f"model 'bert' gives {gives}, not one vector a text"):
        ask_about(settings())


def test_a_family_that_gives_something_else_too_is_encoded(served):
    served(kinds={"dense": 384, "sparse": 9})
    assert ask_about(settings())[1].dimension == 2


def test_ranges_are_of_the_model_that_the_job_began_with(served, monkeypatch):
    served(identity="of one")
    for measured_of in ("of another", None, "of one"):
        measured = Measured(np.array([[0, 0], [1, 1]], np.float32), measured_of)
        monkeypatch.setattr(Session, "ask", lambda self, questions, deadline, measured=measured: measured)
        if measured_of == "of one":
            assert ask_about(settings(precision="int8"))[0].options["ranges"].tolist() == [[0, 0], [1, 1]]
            continue
        with pytest.raises(VersionChanged, match="'bert' (of another|one of unknown identity), and of one is to"):
            ask_about(settings(precision="int8"))


def test_what_decides_about_vectors_is_in_the_fingerprint():
    one = settings().fingerprint("abc")
    for other in (
        settings(pooling="cls").fingerprint("abc"),
        settings(precision="float16").fingerprint("abc"),
        settings(prompt="query: ").fingerprint("abc"),
        settings(truncate=False).fingerprint("abc"),
        settings().fingerprint("other"),
    ):
        assert other != one
    assert settings(batch_size=8, pooling=None).fingerprint("abc") == one


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, "3,000 rows, 200 rows/s, 5 refused"),
        (63_000, "3,000 of 63,000 rows, 200 rows/s, 5 minutes left, 5 refused"),
        (10_000_000, "3,000 of 10,000,000 rows, 200 rows/s, 13.9 hours left, 5 refused"),
    ],
)
def test_progress_counts_rows_of_earlier_runs_and_the_rate_of_this_one(rows, said):
    assert line(Counts(texts=2000, refused=5), 1000, rows, 10.0) == said


def test_it_is_told_with_the_first_answers_of_which_no_block_is_done(monkeypatch):
    monkeypatch.setattr(progress, "_LOOK", 0.01)
    seen: list[str] = []
    standings = chain(repeat(Standing(Counts(), 0.0), 3), repeat(Standing(Counts(texts=40), 2.0)))
    tally = SimpleNamespace(standing=lambda: next(standings))
    is_told = threading.Event()
    with told(lambda line: (seen.append(line), is_told.set()), tally, Counts(texts=60), 1000):  # type: ignore[arg-type]
        assert is_told.wait(PATIENCE)
    assert seen == ["100 of 1,000 rows, 20 rows/s, 1 minutes left"]


def test_a_summary_is_a_line_and_an_estimate_a_few():
    summary = Summary(rows=30, encoded=28, refused=2, tokens=500, cut=1, new_rows=20, seconds=6.0, start_seconds=2.0)
    whole = "30 rows: 28 encoded (500 tokens, 1 texts cut), 2 refused; 20 in this run, 2 s to start and 4 s at 5 rows/s"
    assert str(summary) == whole
    several = Summary(30, 28, 2, 500, 1, 20, 6.0, 2.0, {"grpc://b:1": 12, "grpc://a:1": 8})
    assert str(several).splitlines()[1:] == ["  grpc://a:1: 8 texts", "  grpc://b:1: 12 texts"]
    assert "0 in this run, 4 s" in str(Summary(30, 28, 2, 500, 1, 0, 4.0, 4.0))
    estimate = Estimate(2, 3_600_000, False, 100, 1, 7_200_000, 1 << 31, 500.0)
    assert str(estimate).splitlines() == [
        "input    2 files, about 3,600,000 rows, about 7,200,000 tokens",
        "output   about 2.00 GiB of vectors",
        "time     about 2.0 hours at 500 texts/s: the servers' rate for a sample of 100 rows, one call at a time",
        "refused  1 of those 100",
    ]
    small = str(Estimate(1, 300, True, 64, 0, 3000, 300 * 384 * 4, 200.0))
    assert "about 0.4 MiB of vectors" in small and "about 2 seconds at 200 texts/s" in small
    nothing = str(Estimate(1, 300, True, 64, 64, 0, 0, 0.0)).splitlines()
    assert nothing[2] == "time     none of a sample of 64 rows can be encoded, which says nothing of it"
    assert "about 25 minutes at" in str(Estimate(1, 300_000, True, 64, 0, 3000, 300 * 384 * 4, 200.0))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, "^Ray does not start on this machine: timed out$"),
        ("a:6379", "^there is no Ray at a:6379: timed out; RAY_AUTH_MODE=token is for one that asks for a token$"),
    ],
)
def test_a_ray_that_does_not_start_is_said_in_a_line(monkeypatch, address, message):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)

    def late(**settings: Any) -> None:
        raise Exception("timed out")

    monkeypatch.setattr("ray.init", late)
    with pytest.raises(ClientError, match=message), ray_running(address):
        pass


def test_sigterm_while_ray_starts_is_as_at_any_other_time(monkeypatch):
    monkeypatch.setattr("ray.init", lambda **settings: sys.exit(15))
    with pytest.raises(KeyboardInterrupt), ray_running(None):
        pass


class _Said:
    """What workers have said, without an actor."""

    def __init__(self, failure: ClientError | None) -> None:
        self.failure = lambda: failure


def test_an_error_of_a_worker_is_raised_as_itself():
    busy = ServerBusy("the queue is full")
    with pytest.raises(ServerBusy) as raised, own_errors(_Said(busy)):  # type: ignore[arg-type]
        raise RayError("a task has failed")
    assert raised.value is busy


def test_what_ray_data_advises_is_not_the_reason():
    said = "a traceback\nOSError: no space left\nFailed to write after 1/4 attempts.\nTo change retry attempts, do"
    with pytest.raises(ClientError, match="^Ray ended the job: OSError: no space left$"), own_errors(_Said(None)):  # type: ignore[arg-type]
        raise ValueError(said) from SystemException()


@pytest.mark.parametrize("name", ["__key", "__text", "__problem", "__tokens", "vector"])
def test_a_column_that_a_job_has_itself_is_refused(name):
    with pytest.raises(InvalidArgument, match=f"the output has a column '{name}' of its own"):
        CorpusSettings(["in"], "out", make_settings("localhost:1", "bert"), columns=[name])


def test_an_error_of_rays_own_is_said_in_a_line():
    with pytest.raises(ClientError, match="^Ray ended the job: the worker died$"), own_errors(_Said(None)):  # type: ignore[arg-type]
        raise RayError("a traceback\nthe worker died")
