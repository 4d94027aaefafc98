import zlib

import numpy as np
import pytest

from client_sdk import Client, InvalidArgument, InvalidType
from client_sdk._call.kinds import vectors
from client_sdk._call.precision import PRECISIONS, converter
from tests.support import precisions


def ranges_for(precision, dimension):
    return precisions.ranges(dimension) if precision in ("int8", "uint8") else None


@pytest.mark.parametrize(
    ("precision", "dimension", "checksum", "first"),
    [
        ("int8", 7, 1478150515, [-128, 5, -27, 8, -9]),
        ("uint8", 7, 2487292783, [0, 133, 101, 136, 119]),
        ("binary", 7, 307686216, [66]),
        ("ubinary", 7, 3330497744, [194]),
        ("int8", 384, 2748332813, [-128, 13, 18, -116, 16]),
        ("uint8", 384, 1429123204, [0, 141, 146, 12, 144]),
        ("binary", 384, 2273980435, [-93, 115, 9, -71, 118]),
        ("ubinary", 384, 1569154966, [35, 243, 137, 57, 246]),
    ],
)
def test_bytes_are_those_of_sentence_transformers(precision, dimension, checksum, first):
    """As its release 6.2.0 gave them; tests/live/test_precisions.py asks the one that is installed."""
    found = converter(precision, ranges_for(precision, dimension))(precisions.vectors(dimension))
    assert found[0, :5].tolist() == first
    assert zlib.crc32(found.tobytes()) == checksum


def test_a_step_of_a_range_is_a_step_of_the_integers():
    ranges = [[-1.0, 0.0], [1.55, 0.0]]
    values = np.array([[-1.0, 0.0], [-0.985, -5.0], [1.54, 1.5], [99.0, 300.0]], np.float32)
    assert converter("uint8", ranges)(values).tolist() == [[0, 0], [1, 0], [254, 1], [255, 255]]
    assert converter("int8", ranges)(values).tolist() == [[-128, -128], [-127, -128], [126, -127], [127, 127]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_result_has_the_type_that_is_promised_and_single_texts_have_their_row(precision):
    kind, rest = vectors({"precision": precision, "ranges": ranges_for(precision, 12), "batch_size": 2})
    assert rest == {"batch_size": 2}
    rows = kind.collector(2)
    rows.take([1, 0], {"EMBEDDING": precisions.vectors(12)[:2]})
    width = 2 if "binary" in precision else 12
    assert rows.result().shape == (2, width) and rows.result().dtype == PRECISIONS[precision]
    assert rows.only().shape == (width,)


def test_a_number_beyond_float16_is_an_error_that_names_its_text():
    assert converter("float16", None)(np.array([[1.0, 65504.0]], np.float32)).tolist() == [[1, 65504]]
    with pytest.raises(
        InvalidArgument, match="^text 1: its vector has a number of size 70000, and float16 ends at"
    ) as e:
        converter("float16", None)(np.array([[1.0], [-7e4]], np.float32))
    assert e.value.text_index == 1


@pytest.mark.parametrize(
    ("precision", "ranges", "error", "message"),
    [
        ("int4", None, InvalidArgument, "precision 'int4' is not known; allowed: float32, float16, int8, uint8, bin"),
        (None, None, InvalidType, "precision must be a str, not NoneType"),
        ("binary", [[0], [1]], InvalidArgument, "ranges are for precision int8 and uint8, and this is binary"),
        ("uint8", "a", InvalidType, r"ranges must be numbers, \[2, D\] float32, not str"),
        ("uint8", [0.0, 1.0], InvalidArgument, r"ranges must be \[2, D\]: .*, not of shape \(2,\)"),
        ("uint8", np.zeros((100, 8)), InvalidArgument, r"ranges must be \[2, D\]: .*, not of shape \(100, 8\)"),
        ("uint8", [[0.0, 1.0], [1.0, 0.0]], InvalidArgument, "no least value above its largest"),
        ("uint8", [[0.0], [np.nan]], InvalidArgument, "ranges must be finite"),
    ],
)
def test_what_is_no_precision_is_refused_before_anything_is_sent(precision, ranges, error, message):
    with Client("grpc://127.0.0.1:1") as client, pytest.raises(error, match=message):
        client.encode(["a"], precision=precision, ranges=ranges)


def test_integers_have_ranges_given_or_learned():
    with pytest.raises(InvalidArgument, match=r"precision='int8' needs ranges, .*: ranges=numpy.stack\(\[vectors.min"):
        converter("int8", None)
    ranges = precisions.ranges(12)
    learned = converter("int8", None, learns=True)
    learned.learn(ranges)
    vectors = precisions.vectors(12)
    assert learned(vectors).tobytes() == converter("int8", ranges)(vectors).tobytes()


def test_ranges_of_other_vectors_are_refused():
    with pytest.raises(InvalidArgument, match="ranges are of 2 numbers, and the vectors have 3: were they taken"):
        converter("int8", [[0, 0], [1, 1]])(np.zeros((1, 3), np.float32))
