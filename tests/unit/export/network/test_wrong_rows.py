"""Rows that Triton's native backends let through: NaN for them, and nothing else for the rows of other clients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.checkpoint import checkpoint
from export.network import network
from export.network.layout import INPUTS, MORE_REDUCTIONS, REDUCTIONS, shape_of
from tests.support.checkpoints.folders import VOCABULARY, write_bert

POSITIONS = 64
Request = dict[str, np.ndarray]  # INT32 [N, width] by input, each of its own width


def request(rows: int = 1, width: int = 5, **inputs: object) -> Request:
    """Tokens 5, 6, 7 ..., and the inputs given in their place."""
    ids = 5 + np.arange(rows * width, dtype=np.int32).reshape(rows, width)
    ones = np.ones_like(ids)
    values = dict(zip(INPUTS, (ids, ones, 0 * ones, ones), strict=True))
    return values | {name: np.array(value, np.int32) for name, value in inputs.items()}


def merged(requests: Sequence[Request]) -> dict[str, np.ndarray]:
    """What Triton's ragged batching makes of requests: each input flat, and the width of each row in it."""
    feed = {}
    for name in INPUTS:
        arrays = [one[name] for one in requests]
        feed[name] = np.concatenate([array.ravel() for array in arrays])
        feed[shape_of(name)] = np.concatenate([np.full((len(array), 1), array.shape[1], np.int32) for array in arrays])
    return feed


class Session:
    """A network with a pooler, over two layers, with every reduction."""

    def __init__(self, folder: Path, is_padded: bool = False, half: bool = False) -> None:
        source = checkpoint.load(str(folder))
        model = network.build(
            source.encoder, source.weights, (-1, 0), True, is_padded, half, (*REDUCTIONS, *MORE_REDUCTIONS)
        )
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """token_embeddings, pooled, pooler_output."""
        return self._session.run(None, feed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    write_bert(folder, positions=POSITIONS)
    return folder


@pytest.fixture(scope="module")
def session(folder: Path) -> Session:
    return Session(folder)


def split(requests: Sequence[Request], outputs: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Each request's outputs, as Triton cuts them: tokens by the shape of input_ids, the others by rows."""
    rows = np.cumsum([0, *(len(one["input_ids"]) for one in requests)])
    places = np.cumsum([0, *(one["input_ids"].size for one in requests)])
    tokens, *others = outputs
    assert len(tokens) == places[-1]
    return [
        [tokens[places[i] : places[i + 1]], *(array[rows[i] : rows[i + 1]] for array in others)]
        for i in range(len(requests))
    ]


GOOD = (request(2, 7), request(1, 3, attention_mask=[[0, 1, 1]]), request(1, 1), request(3, 4))

VALUES = {
    "an id below 0": {"input_ids": [[5, -5, 7, 8, 9]]},
    "an id beyond the vocabulary": {"input_ids": [[5, 6, 7, 8, len(VOCABULARY)]]},
    "the largest id": {"input_ids": [[2**31 - 1] * 5]},
    "the least id": {"input_ids": [[-(2**31)] * 5]},
    "a wrong id at padding": {"input_ids": [[5, 6, 7, 8, 99999999]], "attention_mask": [[1, 1, 1, 1, 0]]},
    "a wrong id and no token": {"input_ids": [[-1] * 5], "attention_mask": [[0] * 5]},
    "a type beyond the last": {"token_type_ids": [[0, 0, 2, 0, 0]]},
    "a type below 0": {"token_type_ids": [[-1, 0, 0, 0, 0]]},
    "an attention mask of 2": {"attention_mask": [[1, 2, 1, 1, 0]]},
    "an attention mask below 0": {"attention_mask": [[1, 1, -1, 1, 1]]},
    "a pooling mask of 2": {"pooling_mask": [[2, 1, 1, 1, 1]]},
    "a pooling mask below 0": {"pooling_mask": [[1, 1, 1, 1, -(2**31)]]},
}
WIDTHS = {
    f"{name} of width {width}": {name: np.ones((1, width))}
    for name in INPUTS
    for width in (0, 1, 3, 6, 43, POSITIONS + 9)
}
SIZES = {
    "more tokens than positions": request(1, POSITIONS + 1),
    "a token beyond the positions": request(1, 99, attention_mask=[[0] * 98 + [1]]),
    "widths that add up to the right ones": request(1, 5, input_ids=np.ones((1, 4)), pooling_mask=np.ones((1, 6))),
}
SIZES = {name: one | {"input_ids": one["input_ids"] % 9 + 5} for name, one in SIZES.items()}
WRONG = {name: request(**inputs) for name, inputs in (VALUES | WIDTHS).items()} | SIZES


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("place", [0, 2, len(GOOD)])
def test_a_wrong_row_is_nan_and_all_others_are_what_they_are_without_it(session, name, place):
    expected = split(GOOD, session.run(merged(GOOD)))
    requests = [*GOOD[:place], WRONG[name], *GOOD[place:]]
    found = split(requests, session.run(merged(requests)))
    assert all(np.isnan(array).all() for array in found.pop(place))
    for outputs, wanted in zip(found, expected, strict=True):
        for array, values in zip(outputs, wanted, strict=True):
            np.testing.assert_array_equal(array, values)


def test_in_a_request_only_the_wrong_row_is_nan(session):
    ids = request(3, 4)["input_ids"]
    expected = session.run(merged([request(3, 4)]))
    ids[1, 2] = -1
    tokens, pooled, pooler_output = session.run(merged([request(3, 4, input_ids=ids)]))
    assert np.isnan(pooled).all(axis=(1, 2)).tolist() == [False, True, False]
    np.testing.assert_array_equal(tokens[[0, 1, 2, 3, 8, 9, 10, 11]], expected[0][[0, 1, 2, 3, 8, 9, 10, 11]])
    np.testing.assert_allclose(pooled[[0, 2]], expected[1][[0, 2]], atol=1e-6)
    np.testing.assert_allclose(pooler_output[[0, 2]], expected[2][[0, 2]], atol=1e-6)


def test_nothing_but_wrong_rows_is_nan_everywhere(session):
    requests = [WRONG["an id below 0"], WRONG["pooling_mask of width 0"], WRONG["more tokens than positions"]]
    for array in session.run(merged(requests)):
        assert np.isnan(array).all()


def test_rows_of_padding_and_rows_of_no_width_are_zero(session):
    empty = [request(2, 5, attention_mask=np.zeros((2, 5))), request(1, 0), request(1, 200, attention_mask=[[0] * 200])]
    empty[-1]["input_ids"] %= 9
    requests = [empty[0], *GOOD, WRONG["an id below 0"], *empty[1:]]
    found = split(requests, session.run(merged(requests)))
    for outputs in (found[0], *found[-2:]):
        assert not outputs[0].any() and not outputs[1].any()
    for outputs, wanted in zip(found[1:], split(GOOD, session.run(merged(GOOD))), strict=False):
        np.testing.assert_allclose(outputs[1], wanted[1], atol=1e-6)


def test_merged_requests_of_every_kind_are_told_apart(session):
    """500 batches of right and wrong rows, drawn at random, against a rule that is written here once more."""
    rng = np.random.default_rng(0)
    limits = dict(zip(INPUTS, (len(VOCABULARY), 2, 2, 2), strict=True))
    seen = {True: 0, False: 0}
    for _ in range(500):
        requests = []
        for _ in range(rng.integers(1, 9)):
            rows, width = rng.integers(1, 4), rng.integers(0, 12)
            one = {}
            for name, limit in limits.items():
                own = width if rng.random() < 0.95 else rng.integers(0, 80)
                one[name] = rng.integers(0, limit, (rows, own)).astype(np.int32)
                if own and rng.random() < 0.05:
                    one[name][rng.integers(rows), rng.integers(own)] = rng.choice([-1, limit, 2**31 - 1, -(2**31)])
            requests.append(one)
        found = split(requests, session.run(merged(requests)))
        for one, (tokens, pooled, pooler_output) in zip(requests, found, strict=True):
            alike = len({array.shape for array in one.values()}) == 1
            tokens = tokens.reshape(len(pooled), -1, tokens.shape[-1])
            for row in range(len(pooled)):
                right = alike and all(
                    ((one[name][row] >= 0) & (one[name][row] < limits[name])).all() for name in INPUTS
                )
                seen[right] += 1
                if right:
                    alone = session.run(merged([{name: array[[row]] for name, array in one.items()}]))
                    for array, values in zip((tokens[row], pooled[row], pooler_output[row]), alone, strict=True):
                        np.testing.assert_allclose(array, values.reshape(array.shape), atol=1e-5)
                else:
                    assert all(np.isnan(array).all() for array in (tokens[row], pooled[row], pooler_output[row]))
    assert min(seen.values()) > 500


def test_a_wide_row_costs_its_own_places_and_no_more(folder):
    """Tokens of a wrong row are not computed: 20,000 of them in one row would take 20,000 * 20,000 scores a head."""
    wide = request(1, 20_000)
    wide["input_ids"] %= 9
    tokens, pooled, _ = Session(folder).run(merged([wide, *GOOD]))
    assert np.isnan(tokens[:20_000]).all() and np.isfinite(pooled[1:]).all()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", VALUES)
def test_a_padded_network_spoils_only_rows_that_are_out_of_range(folder, name, half):
    padded = Session(folder, is_padded=True, half=half)
    good = request(3, 5, attention_mask=[[1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    expected = padded.run(good)
    batch = {input_name: np.insert(array, 1, WRONG[name][input_name], axis=0) for input_name, array in good.items()}
    for array, values in zip(padded.run(batch), expected, strict=True):
        assert np.isnan(array[1]).all()
        np.testing.assert_allclose(array[[0, 2, 3]], values, atol=1e-2 if half else 1e-6)


def test_fp16_spoils_a_wrong_row_alone_too(folder):
    half = Session(folder, half=True)
    requests = [WRONG["an id below 0"], *GOOD, WRONG["token_type_ids of width 43"]]
    first, *found, last = split(requests, half.run(merged(requests)))
    assert all(np.isnan(array).all() for array in (*first, *last))
    assert all(np.isfinite(array).all() for outputs in found for array in outputs)
