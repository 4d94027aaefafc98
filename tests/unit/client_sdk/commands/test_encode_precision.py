"""`encode --precision`: the arrays that Client.encode gives, in files."""

import base64
import json
import sys

import numpy as np
import pytest

from client_sdk import _session
from client_sdk._call.precision import PRECISIONS, converter
from client_sdk._commands.main import main
from tests.support.fake_transport import FakeTransport, texts_of

VECTORS = np.random.default_rng(0).standard_normal((5, 12)).astype(np.float32)
RANGES = np.stack([VECTORS.min(axis=0), VECTORS.max(axis=0)])


def reply(request):
    return {"EMBEDDING": VECTORS[[int(text) for text in texts_of(request)]]}


@pytest.fixture(autouse=True)
def server(monkeypatch):
    server = FakeTransport(reply)
    monkeypatch.setattr(_session, "open_transport", lambda connections: server)
    server.close = lambda: None
    return server


@pytest.fixture
def encode(tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("\n".join(map(str, range(len(VECTORS)))))
    np.save(tmp_path / "ranges.npy", RANGES)

    def encode(*arguments):
        """The exit code and standard error."""
        code = main(["encode", str(tmp_path / "texts.txt"), "--batch-size", "2", *arguments])
        return code, capsys.readouterr().err

    return encode


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_holds_what_the_client_would_give(encode, tmp_path, monkeypatch, precision):
    ranges = RANGES if precision.endswith("int8") else None
    expected = converter(precision, ranges)(VECTORS)
    options = ["--precision", precision, *(["--ranges", str(tmp_path / "ranges.npy")] if ranges is not None else [])]
    assert encode("-o", str(tmp_path / "vectors.npy"), *options)[0] == 0
    found = np.load(tmp_path / "vectors.npy")
    assert found.dtype == expected.dtype and found.tobytes() == expected.tobytes()
    for orjson in ("orjson", None):
        if orjson is None:
            monkeypatch.setitem(sys.modules, "orjson", None)
        assert encode("-o", str(tmp_path / "vectors.jsonl"), *options)[0] == 0
        lines = [json.loads(line)["vector"] for line in (tmp_path / "vectors.jsonl").read_text().splitlines()]
        np.testing.assert_array_equal(np.array(lines).astype(expected.dtype), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "int8"], "precision 'int8': the export of model 'bert' has measured no ranges"),
        (["--precision", "int8", "--truncate-dim", "8"], "precision 'int8' with truncate_dim=8: the ranges that the"),
        (["--precision", "binary", "--ranges", "ranges.npy"], "ranges are for precision int8 and uint8"),
        (["--precision", "int8", "--ranges", "texts.txt"], "texts.txt' holds no array in NumPy's format"),
        (["--precision", "int8", "--ranges", "empty.npy"], "empty.npy' holds no array in NumPy's format"),
        (["--precision", "int8", "--ranges", "torn.npz"], "torn.npz' holds no array in NumPy's format"),
        (["--precision", "float16", "--kind", "sparse"], "--precision is for dense vectors: leave it out"),
    ],
)
def test_what_does_not_go_together_is_named(encode, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.npy").touch()
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04")
    code, err = encode(*options)
    assert code == 2 and message in err


def test_ranges_that_the_export_has_measured_need_no_file(encode, server, tmp_path):
    measured = base64.b64encode(RANGES.astype("<f4").tobytes()).decode()
    server.parameters = {"ranges.1": measured, "dimension": "12", "pooling": "mean", "normalize": "true"}
    assert encode("-o", str(tmp_path / "vectors.npy"), "--precision", "int8", "--normalize")[0] == 0
    assert np.load(tmp_path / "vectors.npy").tobytes() == converter("int8", RANGES)(VECTORS).tobytes()


def test_a_number_too_large_for_a_precision_is_told_by_its_line(encode, monkeypatch):
    monkeypatch.setitem(globals(), "VECTORS", VECTORS * np.where(np.arange(5) == 3, 1e6, 1)[:, np.newaxis])
    code, err = encode("--precision", "float16")
    assert code == 2 and "line 4: its vector has a number of size" in err
