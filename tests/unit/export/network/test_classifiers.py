"""Heads of classifiers of every architecture, in both layouts, beside the recorded logits of transformers' classes."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.errors import ExportError
from export.network import architectures, network
from export.network.architectures import classifiers
from tests.support import architecture_vectors as recorded
from tests.support.batches_of_ids import Feed, laid_end_to_end
from tests.support.checkpoints.architectures import CLASSIFIERS, LABELS, Drawn, read, read_classifier

TOLERANCE = 2e-5
BOTH = pytest.mark.parametrize("is_padded", [False, True], ids=["padding_free", "padded"])
EACH = pytest.mark.parametrize("name", CLASSIFIERS)


def run(name: str, is_padded: bool, feed: Feed, half: bool = False) -> np.ndarray:
    settings = CLASSIFIERS[name]
    model = network.build(read(settings), Drawn(), is_padded=is_padded, half=half, head=read_classifier(settings))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["logits"]
    return session.run(None, feed if is_padded else laid_end_to_end(feed))[0]


@BOTH
@EACH
def test_logits_of_rows_of_unlike_lengths_equal_those_of_transformers(name, is_padded):
    found = run(name, is_padded, recorded.feed(read(CLASSIFIERS[name])))
    np.testing.assert_allclose(found, recorded.load_logits(name), rtol=0, atol=TOLERANCE)


@BOTH
@EACH
def test_logits_in_half_precision_are_near(name, is_padded):
    found = run(name, is_padded, recorded.feed(read(CLASSIFIERS[name])), half=True)
    expected = recorded.load_logits(name)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2 * max(1, np.abs(expected).max()))


@BOTH
@EACH
def test_a_wrong_row_has_nan_and_the_others_what_they_have_without_it(name, is_padded):
    feed = recorded.feed(read(CLASSIFIERS[name]))
    feed["input_ids"][2, 3] = read(CLASSIFIERS[name]).vocab_size
    found = run(name, is_padded, feed)
    assert np.isnan(found[2]).all()
    others = [0, 1, 3]
    np.testing.assert_allclose(found[others], recorded.load_logits(name)[others], rtol=0, atol=TOLERANCE)


def test_every_architecture_has_a_head():
    assert {*classifiers.READERS} == {*architectures.READERS}
    assert {settings["model_type"] for settings in CLASSIFIERS.values()} == {*architectures.READERS}


def test_labels_have_the_order_of_the_logits():
    shuffled = {**CLASSIFIERS["bert"], "id2label": dict(reversed(LABELS.items()))}
    assert read_classifier(shuffled).labels == ("against", "neutral", "for")


def test_labels_without_names_have_those_of_transformers():
    settings = {name: value for name, value in CLASSIFIERS["bert"].items() if name != "id2label"}
    assert read_classifier(settings).labels == ("LABEL_0", "LABEL_1")
    assert read_classifier({**settings, "num_labels": 3}).labels == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize("labels", [{"0": "a", "2": "b"}, {"0": 1}, {"a": "b"}, ["a"]])
def test_labels_that_name_no_logits_are_refused(labels):
    with pytest.raises(ExportError, match="id2label is .* is expected"):
        read_classifier({**CLASSIFIERS["bert"], "id2label": labels})


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("modernbert", "classifier_pooling", "max"),
        ("eurobert", "classifier_pooling", "cls"),
        ("deberta", "pooler_hidden_act", "elu"),
    ],
)
def test_a_head_that_is_not_written_is_refused(name, key, value):
    with pytest.raises(ExportError, match=f"{key} is '{value}'; export works for"):
        read_classifier(json.loads(json.dumps({**CLASSIFIERS[name], key: value})), Path("config.json"))
