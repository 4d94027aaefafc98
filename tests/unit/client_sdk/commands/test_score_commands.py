"""`rerank` and `classify`, of a server whose scores are written in the texts."""

import io
import json
import os
import sys
import tracemalloc

import numpy as np
import pytest

from client_sdk import InvalidArgument, ServerError, _session
from client_sdk._commands.main import main
from tests.support.fake_transport import FakeTransport, texts_of

LABELS = ["no", "maybe", "yes"]


class Server(FakeTransport):
    """Of the text "a 3 1 2" the scores are 3, 1 and 2; "refused" is."""

    def __init__(self):
        super().__init__(self.reply)
        self.labels = LABELS

    def reply(self, request):
        self.requests.clear()  # so that no text is kept here
        self.started.clear()
        texts = [text if isinstance(text, str) else text[-1] for text in texts_of(request)]
        if "refused" in texts:
            raise InvalidArgument.of_text(texts.index("refused"), " is refused")
        return {"SCORES": np.array([[float(number) for number in text.split()[1:]] for text in texts], np.float32)}

    def query(self, query, timeout):
        answer = super().query(query, timeout)
        return {**answer, "parameters": {"labels": {"string_value": json.dumps(self.labels)}}}


def broken(request):
    raise ServerError("it broke")


class Stream:
    """Standard input without an end that could be looked for."""

    def __init__(self, lines):
        self.buffer = self
        self._lines = iter(lines)

    def readline(self, size):
        line = next(self._lines, b"")
        assert len(line) <= size
        return line

    def fileno(self):
        raise io.UnsupportedOperation


@pytest.fixture(autouse=True)
def server(monkeypatch):
    server = Server()
    monkeypatch.setattr(_session, "open_transport", lambda connections: server)
    server.close = lambda: None
    return server


@pytest.fixture
def answered(capsys, monkeypatch):
    def answered(*arguments, lines):
        """The exit code, the objects that were written to standard output, and standard error."""
        monkeypatch.setattr("sys.stdin", Stream(lines))
        code = main([*map(str, arguments)])
        shown = capsys.readouterr()
        return code, [json.loads(line) for line in shown.out.splitlines()], shown.err

    return answered


@pytest.fixture(params=["orjson", None])
def encoder(request, monkeypatch):
    """JSON is written in two ways."""
    if request.param is None:
        monkeypatch.setitem(sys.modules, "orjson", None)


DOCUMENTS = [b"a 0.1\n", b"b\xc3\xa9 0.9\n", b"c 0.5\n", b"d 0.9"]


@pytest.mark.parametrize("top_k", [None, 2, 9])
def test_documents_come_best_first_with_the_place_of_their_line(answered, encoder, top_k):
    options = [] if top_k is None else ["--top-k", top_k]
    code, entries, errors = answered("rerank", "a query", *options, lines=DOCUMENTS)
    expected = [(1, 0.9, "bé 0.9"), (3, 0.9, "d 0.9"), (2, 0.5, "c 0.5"), (0, 0.1, "a 0.1")]
    assert (code, errors) == (0, "")
    assert [list(entry) for entry in entries[:1]] == [["index", "score", "document"]]
    assert [tuple(entry.values()) for entry in entries] == expected[:top_k]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_file_may_stand_anywhere_behind_the_query(capsys, tmp_path, place):
    (tmp_path / "documents.txt").write_bytes(b"".join(DOCUMENTS))
    rest = [["--top-k", "1"], ["--batch-size", "2"]]
    rest.insert(place, [str(tmp_path / "documents.txt")])
    assert main(["rerank", "a query", *sum(rest, [])]) == 0
    assert json.loads(capsys.readouterr().out)["index"] == 1
    with pytest.raises(SystemExit, match="2"):
        main(["rerank", "a query", *sum(rest, []), "another"])
    assert "unrecognized arguments: another" in capsys.readouterr().err


def test_labels_come_best_first_and_in_the_order_of_the_lines(answered, encoder):
    code, entries, errors = answered("classify", "--top-k", 2, lines=[b"a 0.1 0.2 0.7\n", b"b\xc3\xa9 0.5 0.3 0.2\n"])
    assert (code, errors) == (0, "")
    assert entries == [
        {"text": "a 0.1 0.2 0.7", "labels": [{"name": "yes", "score": 0.7}, {"name": "maybe", "score": 0.2}]},
        {"text": "bé 0.5 0.3 0.2", "labels": [{"name": "no", "score": 0.5}, {"name": "maybe", "score": 0.3}]},
    ]


def test_lines_that_are_left_out_do_not_change_the_place_of_others(answered):
    lines = [b"a 1\n", b"\n", b"refused\n", b"b 2\n"]
    code, entries, errors = answered("rerank", "q", "--on-error", "skip", lines=lines)
    assert code == 0 and [(entry["index"], entry["document"]) for entry in entries] == [(3, "b 2"), (0, "a 1")]
    assert [line.split(" of ")[0] for line in errors.splitlines()] == ["skipped: line 2", "skipped: line 3 is refused"]


def test_lines_that_are_left_out_are_told_by_the_numbers_of_others(answered, tmp_path):
    lines, output = [b"q\ta 1 2 3\n", b"no pair\n", b"q\trefused\n", b"q\tb 3 2 1\n"], tmp_path / "out.jsonl"
    code, _, errors = answered("classify", "--pairs", "--on-error", "skip", "-o", output, "--top-k", 1, lines=lines)
    assert code == 0 and "2 lines were skipped, the first: line 2 " in errors
    entries = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(entry["line"], entry["text"]) for entry in entries] == [(1, ["q", "a 1 2 3"]), (4, ["q", "b 3 2 1"])]
    assert [[label["name"] for label in entry["labels"]] for entry in entries] == [["yes"], ["no"]]


@pytest.mark.parametrize("command", [["rerank", "q"], ["classify"]])
def test_where_every_line_is_refused_what_was_there_is_not_taken_for_the_answer(answered, tmp_path, command):
    output = tmp_path / "out.jsonl"
    output.write_text("what was there before")
    code, _, errors = answered(*command, "--on-error", "skip", "-o", output, lines=[b"refused\n"])
    assert code == 2 and errors.endswith("\nerror: the server refused every line, and so nothing is written\n")
    assert output.read_text() == "what was there before"


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_what_was_skipped_before_stays_beside_the_file_that_a_failed_run_leaves(answered, server, tmp_path, on_error):
    output, report = tmp_path / "out.jsonl", tmp_path / "out.jsonl.skipped.jsonl"
    assert answered("classify", "--on-error", "skip", "-o", output, lines=[b"a 1 2 3\n", b"\n"])[0] == 0
    before = output.read_text(), report.read_text()
    server.answer = broken
    code, _, errors = answered("classify", "--on-error", on_error, "-o", output, lines=[b"b 1 2 3\n"])
    assert (code, errors) == (1, "error: it broke\n")
    assert (output.read_text(), report.read_text()) == before and len(os.listdir(tmp_path)) == 2


def test_what_was_skipped_of_what_was_done_before_an_error_stands_beside_that(answered, server, tmp_path):
    def reply(request):
        if "c 1 2 3" in texts_of(request):
            raise ServerError("it broke")
        return Server.reply(server, request)

    server.answer = reply
    output, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    lines = [b"a 1 2 3\n", b"refused\n", *[b"b 1 2 3\n"] * 10_000, b"c 1 2 3\n"]
    code, _, errors = answered("classify", "--on-error", "skip", "-o", output, lines=lines)
    report = tmp_path / "out.jsonl.partial.skipped.jsonl"
    assert code == 1 and f"1 lines were skipped, the first: line 2 is refused; all are in {report}" in errors
    assert [json.loads(line)["line"] for line in partial.read_text().splitlines()][:2] == [1, 3]
    assert [json.loads(line) for line in report.read_text().splitlines()] == [{"line": 2, "reason": "is refused"}]
    assert {*tmp_path.iterdir()} == {partial, report}


@pytest.mark.parametrize("command", [["rerank", "q"], ["classify"]])
def test_a_refused_text_is_named_by_its_line(answered, server, command):
    server.labels = ["yes"]
    code, entries, errors = answered(*command, lines=[b"a 1\n", b"refused\n"])
    assert (code, entries, errors) == (2, [], "error: line 2 is refused\n")


def test_an_error_leaves_no_ranking_and_the_labels_that_were_done(answered, server, tmp_path):
    server.labels, lines = ["yes"], [*[b"a 1\n"] * 20_000, b"\n"]
    code, _, errors = answered("rerank", "q", "-o", tmp_path / "ranked.jsonl", lines=lines)
    assert code == 2 and errors.startswith("error: line 20001 ") and os.listdir(tmp_path) == []
    code, _, errors = answered("classify", "-o", tmp_path / "labels.jsonl", lines=lines)
    partial = tmp_path / "labels.jsonl.partial"
    assert code == 2 and errors.startswith(f"note: the 20,000 texts that were done are in {partial}\n")
    assert os.listdir(tmp_path) == [partial.name] and len(partial.read_text().splitlines()) == 20_000


def test_scores_of_other_labels_are_not_taken_for_these(answered, server):
    server.labels = ["no", "yes"]
    code, entries, errors = answered("classify", lines=[b"a 1 2 3\n"])
    assert code == 1 and entries == [] and errors.startswith("error: SCORES changed from 2 to 3 values a text")


def test_several_labels_rank_nothing(answered):
    code, entries, errors = answered("rerank", "q", lines=[b"a 1 2 3\n"])
    assert code == 2 and entries == [] and errors.startswith("error: the model gives 3 scores a pair")


@pytest.mark.parametrize("command", [["rerank", "q", "--top-k", "3"], ["classify"]])
def test_a_stream_is_answered_in_bounded_memory(server, monkeypatch, tmp_path, command):
    length, count = 1_000, 60_000  # much more than is read ahead
    server.labels = ["yes"]
    written = []

    def lines():
        for number in range(count):
            yield b"%s %d\n" % (b"x" * length, number)
        written.append(os.path.getsize(tmp_path / "out"))

    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stdin", Stream(lines()))
        tracemalloc.start()
        try:
            assert main(command) == 0
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    entries = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    if command[0] == "rerank":
        assert [entry["index"] for entry in entries] == [count - 1, count - 2, count - 3]
    else:
        assert len(entries) == count and written[0] > 0  # before the last line was read
    assert peak < length * count / 3


@pytest.mark.parametrize("options", [[], ["--pairs"]])
def test_a_line_of_any_size_is_skipped_in_bounded_memory(tmp_path, capsys, options):
    before, size = b"q\t" * bool(options), 48 << 20
    with (tmp_path / "texts.txt").open("wb") as file:
        file.write(before + b"a 1 2 3\n" + before)
        for _ in range(size >> 20):
            file.write(b"x" * (1 << 20))
        file.write(b"\r\n%sb 1 2 3\n%s%s\n" % (before, before, b"\xc3\xa9" * (1 << 19) + b" 1"))
    tracemalloc.start()
    try:
        code = main(["classify", *options, "--on-error", "skip", str(tmp_path / "texts.txt")])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    shown = capsys.readouterr()
    assert code == 0 and [json.loads(line)["line"] for line in shown.out.splitlines()] == [1, 3]
    sizes = [size + len(before) + 2, (1 << 20) + 2]
    assert shown.err.splitlines() == [
        f"skipped: line {number} of {tmp_path / 'texts.txt'} has {size} bytes; a text may have 1048576 bytes at most"
        for number, size in zip((2, 4), sizes, strict=True)
    ]
    assert peak < size / 2


def test_a_score_that_is_no_number_is_told_by_the_place_of_its_text(answered):
    code, _, err = answered("classify", "--batch-size", "1", lines=[b"a 1 2 3\n", b"b 1 2 3\n", b"c nan 1 2\n"])
    assert code == 1 and "text 2: the server answered a vector that is not finite" in err
