"""`encode` and `classify` on a disk that is full before they are done: what was done is kept."""

import json
import resource

import numpy as np
import pytest

from client_sdk import _session
from client_sdk._commands.main import main
from tests.support.fake_transport import FakeTransport, texts_of

WIDTH = 64
ROOM = 100_000  # bytes


def vector(text):
    return np.random.default_rng(int(text)).standard_normal(WIDTH).astype(np.float32)


def reply(request):
    vectors = np.stack([vector(text) for text in texts_of(request)])
    return {"EMBEDDING": vectors, "SCORES": vectors}


@pytest.fixture(autouse=True)
def server(monkeypatch):
    server = FakeTransport(reply)
    server.parameters["labels"] = json.dumps([str(place) for place in range(WIDTH)])
    monkeypatch.setattr(_session, "open_transport", lambda connections: server)
    server.close = lambda: None
    return server


@pytest.fixture
def full_disk():
    """No file grows beyond ROOM: the kernel writes what fits, and fails what does not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _array(path):
    return np.load(path)


def _lines(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["text"] for line in lines] == [str(place) for place in range(len(lines))]
    return np.array([line["vector"] for line in lines], np.float32)


def _labels(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    scores = [{label["name"]: label["score"] for label in line["labels"]} for line in lines]
    return np.array([[line[str(place)] for place in range(WIDTH)] for line in scores], np.float32)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize(
    ("command", "name", "read", "least"),
    [
        ("encode", "out.npy", _array, 300),
        ("encode", "out.jsonl", _lines, 80),
        ("classify", "out.jsonl", _labels, 30),
    ],
)
def test_what_was_done_on_a_disk_that_is_full_is_kept(tmp_path, capsys, command, name, read, least):
    (tmp_path / "texts.txt").write_text("\n".join(map(str, range(1000))))
    code = main([command, str(tmp_path / "texts.txt"), "--batch-size", "8", "-o", str(tmp_path / name)])
    note, error = capsys.readouterr().err.splitlines()
    found = read(tmp_path / f"{name}.partial")
    np.testing.assert_array_equal(found, np.stack([vector(text) for text in range(len(found))]))
    assert code == 1 and error == "error: [Errno 27] File too large" and len(found) > least
    assert note.startswith(f"note: the {len(found)} ")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.partial", "texts.txt"]
