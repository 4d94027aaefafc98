"""Whatever is raised for one request of a batch, in any step, is its own error, and the others are served."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.support import reference, step_models
from tests.support.patience import PATIENCE, wait_for
from tests.support.step_batches import Error, Request, Response, arguments, execute, utilities

BAD = 666  # a number, of which something planted fails
RAISED = (ValueError, MemoryError, SystemExit, type("PanicException", (BaseException,), {}))


def plant(owner: object, name: str, fails: Callable[..., bool], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have a function raise for what `fails` says of its arguments; returns a list that grows when it did."""
    whole, count = getattr(owner, name), []

    def method(*given: Any, **options: Any) -> Any:
        if fails(*given):
            count.append(1)
            raise RAISED[len(count) % len(RAISED)]("as planted")
        return whole(*given, **options)

    monkeypatch.setattr(owner, name, method)
    return count


def check(model: Any, requests: Callable[[bool], list[Request]], planted: Callable[[], list[int]]) -> None:
    """Asks with one request of five that is bad, before and after something is planted that fails of it."""
    expected = execute(model, requests(False))
    count = planted()
    for _ in RAISED:
        found = execute(model, requests(True))
        assert count and isinstance(found[2], Error) and "as planted" in str(found[2])
        for index in (0, 1, 3, 4):
            assert found[index].keys() == expected[index].keys()
            for name, array in found[index].items():
                np.testing.assert_array_equal(array, expected[index][name])
        count.clear()


# pooling


@pytest.fixture(scope="module")
def pooling() -> dict[str, ModuleType]:
    return step_models.load("pooling", utilities())


@pytest.mark.parametrize("name", ["reduced", "transformed", "finished"])
def test_the_pooling_serves_the_others_of_a_batch(name, pooling, tmp_path, monkeypatch):
    model = pooling["model"].TritonPythonModel()
    np.savez(tmp_path / "stages.npz", weight_0=np.eye(6, dtype=np.float32), bias_0=np.zeros(6, np.float32))
    dense = {"stages": '["identity"]'}
    model.initialize(arguments(tmp_path, "bert_pooling", pooling="mean", normalize="true", **dense))

    def requests(with_bad: bool) -> list[Request]:
        arrays = np.random.default_rng(0).standard_normal((5, 2, 4, 6)).astype(np.float32)
        if with_bad:
            arrays[2, 1, 0, 3] = BAD
        return [Request({"pooled": array}, ["EMBEDDING"]) for array in arrays]

    check(model, requests, lambda: plant(pooling["vectors"], name, lambda x, *_: (x == BAD).any(), monkeypatch))


# tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> dict[str, ModuleType]:
    return step_models.load("tokenizer", utilities())


@pytest.fixture(scope="module")
def tokenizing(tokenizer) -> Iterator[Any]:
    settings = {"family": "bert", "max_seq_len": "32", "prompts": "{}", "default_prompt_name": ""}
    model = tokenizer["model"].TritonPythonModel()
    model.initialize(arguments(Path(reference.checkpoint()), "bert_tokenizer", **settings))
    yield model
    model.finalize()


def has_bad_text(job: Any) -> bool:
    return any(str(BAD).encode() in side.data for row in job.rows for side in row)


@pytest.mark.parametrize(
    ("module", "owner", "name", "fails"),
    [
        ("token_rows", "Job", "start", has_bad_text),
        ("tokenizer_file", "TokenizerFile", "encode", lambda _, pieces, *__: str(BAD) in " ".join(pieces)),
        ("token_rows", "Job", "take", lambda job, _: has_bad_text(job)),
        ("token_rows", "Side", "take", lambda side, *_: str(BAD).encode() in side.data),
        ("token_rows", "Job", "finished_rows", has_bad_text),
        ("model", "", "outputs", has_bad_text),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("length", [1, 500])  # words; the second is done in turns
def test_the_tokenizer_serves_the_others_of_a_batch(
    length, module, owner, name, fails, tokenizer, tokenizing, monkeypatch
):
    def requests(with_bad: bool) -> list[Request]:
        texts = [[f"text {index}", "and more " * length] for index in range(5)]
        if with_bad:
            texts[2][0] = f"text {BAD}"
        arrays = [np.array([[text.encode()] for text in pair], object) for pair in texts]
        return [Request({"TEXT": array}, ["input_ids", "TOKEN_COUNT"]) for array in arrays]

    place = getattr(tokenizer[module], owner) if owner else tokenizer[module]
    check(tokenizing, requests, lambda: plant(place, name, fails, monkeypatch))


class Counter:
    """A metric of Triton's, and how many threads it was in at most; the first one to come waits for a second."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.inside = self.most = 0
        self.met = threading.Event()

    def increment(self, count: int) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.inside > 1:
            self.met.set()
        self.met.wait(0.5)  # in vain, if all is well
        self.counts.append(count)
        self.inside -= 1


def test_the_tokenizer_counts_cut_texts_by_one_thread_at_a_time(tokenizing, monkeypatch):
    """Two at a time end tritonserver."""
    counter = Counter()
    monkeypatch.setattr(tokenizing, "truncated", counter)
    texts = [b"in turns " * 500, b"at once " * 40]
    batch = [Request({"TEXT": np.array([[text]], object)}, ["input_ids", "TOKEN_COUNT"]) for text in texts]
    assert [len(answer["input_ids"][0]) for answer in execute(tokenizing, batch)] == [32, 32]
    assert (counter.counts, counter.most) == ([1, 1], 1)


class NoRoom(Request):
    """Its answer does not fit into shared memory."""

    def send(self, response: Response | None = None, flags: int = 0) -> None:
        if response is not None:
            raise MemoryError
        super().send(flags=flags)


def test_a_long_text_whose_answer_cannot_be_sent_is_not_waited_for_in_vain(tokenizing):
    """Of an end without an answer Triton makes an error."""
    without, with_room = (
        kind({"TEXT": np.array([[b"in turns " * 500]], object)}, ["TOKEN_COUNT"]) for kind in (NoRoom, Request)
    )
    assert tokenizing.execute([without, with_room]) == [None, None]
    assert without.ended.wait(PATIENCE) and without.sent == []
    assert with_room.ended.wait(PATIENCE) and len(with_room.sent) == 1


# encoder


class Session:
    """A network that sums the ids of each row, and has the number BAD in its vocabulary."""

    def get_modelmeta(self) -> Any:
        limits = {"vocab_size": "1000", "type_vocab_size": "2", "max_position_embeddings": "8192"}
        return SimpleNamespace(custom_metadata_map=limits)

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="pooled", shape=["N", 4, 2])]

    def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        starts = np.cumsum([0, *feed["input_ids_shape"][:-1, 0]])
        sums = np.add.reduceat(feed["input_ids"], starts).astype(np.float32)
        return [np.tile(sums[:, None, None], (1, 4, 2))]


@pytest.fixture(scope="module")
def encoder() -> dict[str, ModuleType]:
    return step_models.load("encoder", utilities())


@pytest.fixture(params=["384", "8"], ids=["in one slice", "in several"])
def encoding(request, encoder, tmp_path, monkeypatch) -> Iterator[Any]:
    """A model, whose batches of 15 tokens go through the backlog or not."""
    (tmp_path / "model.onnx").touch()
    monkeypatch.setattr(encoder["network"], "session", lambda *_: Session())
    settings = {"family": "bert", "token_budget": request.param, "max_queue_size": "99", "queue_timeout": "30"}
    model = encoder["model"].TritonPythonModel()
    model.initialize(arguments(tmp_path, "bert_encoder", threads="2", **settings))
    yield model
    model.finalize()


def test_with_a_cache_a_known_text_never_waits_for_the_network(encoder, tmp_path, monkeypatch):
    computes, goes_on = threading.Event(), threading.Event()

    class Slow(Session):
        def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            if BAD in feed["input_ids"]:
                computes.set()
                assert goes_on.wait(PATIENCE)
            return super().run(names, feed)

    (tmp_path / "model.onnx").touch()
    monkeypatch.setattr(encoder["network"], "session", lambda *_: Slow())
    limits = {"token_budget": "384", "max_queue_size": "99", "queue_timeout": "30", "cache_bytes": "9999"}
    model = encoder["model"].TritonPythonModel()
    model.initialize(arguments(tmp_path, "bert_encoder", threads="2", family="bert", **limits))

    def request(*ids: int) -> Request:
        return Request(ids_of([[*ids]], encoder), ["pooled"])

    (known,) = execute(model, [request(5, 6)])
    slow = request(BAD)
    for batch in ([slow, request(5, 6)], [request(5, 6)]):  # beside one that is computed, and behind it
        *_, response = model.execute(batch)
        assert response is not None and not slow.ended.is_set()
        np.testing.assert_array_equal(response.tensors[0].array, known["pooled"])
        assert computes.wait(PATIENCE)
    goes_on.set()
    assert slow.ended.wait(PATIENCE)
    model.finalize()


def ids_of(rows: list[list[int]], encoder: dict[str, ModuleType]) -> dict[str, np.ndarray]:
    """The inputs of a request with rows of ids, which may be empty."""
    inputs = {name: np.zeros((len(rows), max(map(len, rows))), np.int32) for name in encoder["jobs"].INPUTS}
    for index, row in enumerate(rows):
        inputs["input_ids"][index, : len(row)] = row
        for mask in ("attention_mask", "pooling_mask"):
            inputs[mask][index, : len(row)] = 1
    return inputs


@pytest.mark.parametrize(
    ("lengths", "timeout", "seconds"),
    [
        ([3, 512], 0, 30),
        ([512] * 64, 0, 30),
        ([8192] * 4, 0, 30 + 4 * 7680 * 0.04),  # three others like it, at a hundred tokens a second
        ([8192] * 4, 5_000_000, 5),
        ([3], 50_000_000, 30),
        ([2012, 5, 0], 80_000_000, 80),
        ([2012, 5, 0], 100_000_000, 90),
    ],
)
def test_a_request_of_long_texts_may_wait_for_others_like_it(encoder, encoding, lengths, timeout, seconds):
    inputs = ids_of([[1] * length for length in lengths], encoder)
    job = encoding.reader.read(Request(inputs, ["pooled"], microseconds=timeout))
    assert job.patience == pytest.approx(seconds)


def has_bad_ids(job: Any) -> bool:
    return (job.inputs[0] == BAD).any()


@pytest.mark.parametrize(
    ("owner", "name", "fails"),
    [
        ("reading.Reader", "read", lambda _, request: BAD in request.inputs["input_ids"]),
        ("jobs.Job", "rows", has_bad_ids),
        ("jobs.Job", "make_outputs", has_bad_ids),
        ("model.TritonPythonModel", "_begin", lambda _, job: has_bad_ids(job)),
        ("model.TritonPythonModel", "_run", lambda _, session, rows: any(has_bad_ids(row.job) for row in rows)),
        ("session", "run", lambda _, names, feed: BAD in feed["input_ids"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_encoder_serves_the_others_of_a_batch(owner, name, fails, encoder, encoding, monkeypatch):
    module, _, of = owner.partition(".")
    place = getattr(encoder[module], of) if of else Session

    def requests(with_bad: bool) -> list[Request]:
        numbers = [BAD if with_bad and index == 2 else index + 5 for index in range(5)]
        return [Request(ids_of([[1, number, 1]], encoder), ["pooled"]) for number in numbers]

    check(encoding, requests, lambda: plant(place, name, fails, monkeypatch))


def test_who_gave_up_is_told_so_and_is_not_computed(encoder, encoding, monkeypatch):
    monkeypatch.setattr(encoder["model"], "GIVEN_UP_AFTER", -1)
    computed: list[int] = []
    whole = Session.run

    def run(self: Session, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        computed.extend(feed["input_ids"].tolist())
        return whole(self, names, feed)

    monkeypatch.setattr(Session, "run", run)
    batch = [Request(ids_of([ids], encoder), ["pooled"]) for ids in ([5, 6, 7], [BAD, BAD, BAD], [7, 8, 9])]
    monkeypatch.setattr(batch[1], "is_cancelled", lambda: True)
    first, second, third = execute(encoding, batch)
    assert "cancelled while it waited" in str(second) and second.code == Error.CANCELLED
    assert (first["pooled"] == 18).all() and (third["pooled"] == 24).all()
    assert sorted(computed) == [5, 6, 7, 7, 8, 9]


def test_what_is_refused_is_no_padding_that_was_saved(encoder, encoding):
    encoding.backlog.size += 97  # others that wait, where 99 may
    two, three = (Request(ids_of([[5]] * count, encoder), ["pooled"]) for count in (2, 3))
    served, refused = execute(encoding, [two, three])
    encoding.backlog.size -= 97
    assert "pooled" in served and refused.code == Error.UNAVAILABLE
    assert encoding.meters.counts["bert_padded_tokens_total"] == 2


def test_what_was_counted_last_is_told_at_the_end(encoder, encoding, monkeypatch):
    told: defaultdict[str, float] = defaultdict(float)

    class Metric(SimpleNamespace):
        def increment(self, number: float) -> None:
            told[self.name] += number

    monkeypatch.setattr(encoding.meters, "metrics", {name: Metric(name=name) for name in encoding.meters.metrics})
    encoding.backlog.size += 7  # others that wait
    wait_for(lambda: told["bert_waiting_texts"] == 7)
    encoding.backlog.size -= 7
    execute(encoding, [Request(ids_of([[5, 6, 7], [8]], encoder), ["pooled"])])
    encoding.finalize()
    assert (told["bert_tokens_total"], told["bert_padded_tokens_total"], told["bert_waiting_texts"]) == (4, 6, 0)


@given(
    st.lists(  # requests, of rows, of ids
        st.lists(st.lists(st.sampled_from([5, 6, 7, BAD]), max_size=7), min_size=1, max_size=5), min_size=1, max_size=8
    )
)
@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_each_row_of_each_request_gets_what_the_network_makes_of_it_and_equal_ones_are_run_once(
    encoder, encoding, batch
):
    runs: list[list[int]] = []
    whole = Session.run

    def run(self: Session, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        if BAD in feed["input_ids"]:
            raise ValueError("as planted")
        ends = np.cumsum(feed["input_ids_shape"][:, 0])[:-1]
        rows = [tuple(row.tolist()) for row in np.split(feed["input_ids"], ends)]
        assert len({*rows}) == len(rows)
        runs.append([len(row) for row in rows])
        return whole(self, names, feed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "run", run)
        answers = execute(encoding, [Request(ids_of(rows, encoder), ["pooled"]) for rows in batch])
    assert all(sum(lengths) <= encoding.backlog.token_budget or len(lengths) == 1 for lengths in runs)
    assert sum(map(sum, runs)) <= sum(len(row) for rows in batch for row in rows if BAD not in row)
    for rows, answer in zip(batch, answers, strict=True):
        if not any(BAD in row for row in rows):
            assert answer["pooled"][:, 0, 0].tolist() == [sum(row) for row in rows]
        else:
            assert str(answer) == "the encoder failed: ValueError: as planted"


def test_a_vector_that_is_not_finite_is_the_error_of_its_request(encoder, encoding, monkeypatch):
    whole = Session.run

    def run(self: Session, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        (sums,) = whole(self, names, feed)
        return [np.where(sums == BAD, np.nan, sums)]

    monkeypatch.setattr(Session, "run", run)
    batch = [Request(ids_of([ids], encoder), ["pooled"]) for ids in ([5, 6], [BAD], [7, 8])]
    first, second, third = execute(encoding, batch)
    assert str(second) == "the network gave a vector that is not finite for text 0" and second.code == Error.INVALID_ARG
    assert (first["pooled"] == 11).all() and (third["pooled"] == 15).all()
