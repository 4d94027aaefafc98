"""`python -m client_sdk` against the real model; its own errors are in tests/unit."""

import array
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import termios

import numpy as np
import pytest

from client_sdk import Client, LocalServer
from client_sdk._call import questions
from client_sdk._call.plan import WINDOW_TEXTS
from client_sdk._commands.main import main
from client_sdk._transport.retry import Deadline
from tests.support.patience import PATIENCE, settled
from tests.support.servers.local_servers import ending, wait_for


@pytest.fixture(params=["grpc", "http"])
def url(request, server: LocalServer, monkeypatch) -> str:
    url = server.grpc_url if request.param == "grpc" else server.http_url
    monkeypatch.setenv("CLIENT_SDK_URL", url)
    return url


@pytest.fixture
def vectors(url):
    with Client(url) as client:
        return client.encode(["First do it", "then do it right"])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes("\ufeffFirst do it\r\nthen do it right".encode())
    return path


def same(found, expected):
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, rtol=0, atol=1e-5)


def test_info_is_json(url, capsys):
    assert main(["info"]) == 0
    assert json.loads(capsys.readouterr().out)["dimension"] == 384


def test_texts_become_json_lines(vectors, file, capsys):
    assert main(["encode", str(file)]) == 0
    shown = capsys.readouterr()
    entries = [json.loads(line) for line in shown.out.splitlines()]
    assert [entry["text"] for entry in entries] == ["First do it", "then do it right"]
    same([entry["vector"] for entry in entries], vectors)
    assert shown.err == ""


def test_standard_input_is_read(vectors, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"First do it\nthen do it right\n")))
    assert main(["encode", "-"]) == 0
    same([json.loads(line)["vector"] for line in capsys.readouterr().out.splitlines()], vectors)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_texts_become_a_file_which_replaces_the_one_before(vectors, file, suffix):
    output = file.with_suffix(suffix)
    output.write_text("what was there before")
    assert main(["encode", str(file), "-o", str(output)]) == 0
    if suffix == ".npy":
        found = np.load(output)
        assert found.dtype == np.float32
    else:
        found = [json.loads(line)["vector"] for line in output.read_text().splitlines()]
    same(found, vectors)
    assert sorted(os.listdir(file.parent)) == sorted([file.name, output.name])


def test_a_failed_run_leaves_the_output_as_it_was(url, file, capsys):
    output = file.with_suffix(".jsonl")
    output.write_text("what was there before")
    file.write_text("First do it\n \n")
    assert main(["encode", str(file), "-o", str(output)]) == 2
    assert output.read_text() == "what was there before" and len(os.listdir(file.parent)) == 2


def test_options_reach_the_model(url, file, capsys):
    options = [
        "--pooling",
        "mean_max",
        "--no-normalize",
        "--truncate-dim",
        "10",
        "--max-seq-len",
        "5",
        "--prompt",
        "a ",
    ]
    assert main(["encode", str(file), *options]) == 0
    found = [json.loads(line)["vector"] for line in capsys.readouterr().out.splitlines()]
    with Client(url) as client:
        texts = ["First do it", "then do it right"]
        given = {"normalize": False, "truncate_dim": 10, "max_seq_len": 5, "prompt": "a "}
        same(found, client.encode(texts, pooling="mean_max", **given))


def test_more_lines_than_a_chunk_come_out_in_order(url, tmp_path, capsys):
    texts = [f"number {i}" for i in range(2500)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    output = tmp_path / "vectors.npy"
    assert main(["encode", str(tmp_path / "texts.txt"), "-o", str(output), "--progress"]) == 0
    assert "2.50k/2.50k" in capsys.readouterr().err
    with Client(url) as client:
        same(np.load(output)[[0, 2047, 2048, 2499]], client.encode([texts[i] for i in (0, 2047, 2048, 2499)]))


def test_a_text_that_is_too_long_is_named_by_its_line(url, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("fine\n" * 2100 + "x" * (1 << 20) + "y\n")
    assert main(["encode", str(tmp_path / "texts.txt"), "-o", str(tmp_path / "out.npy")]) == 2
    message = f"line 2101 of {tmp_path / 'texts.txt'} has 1048577 bytes; a text may have 1048576 bytes at most"
    assert capsys.readouterr().err == f"error: {message}\n"


def test_an_unknown_model_is_one_line(url, capsys):
    assert main(["info", "--model", "nope"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: there is no model 'nope'") and "bert" in error and error.count("\n") == 1


def run_encode(stdout, *options):
    command = [sys.executable, "-m", "client_sdk", "encode", *options]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE, text=True)


def unread(pipe):
    """Bytes that nobody has read yet."""
    found = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, found)
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_sigterm_and_a_lost_terminal_are_130_without_a_traceback(url, number, tmp_path):
    with ending(run_encode(subprocess.DEVNULL, "-o", str(tmp_path / "vectors.npy"))) as child:
        child.stdin.write("First do it\n" * 10)
        child.stdin.flush()
        wait_for(lambda: unread(child.stdin) == 0)  # it reads, so it has begun
        child.send_signal(number)
        assert child.wait(PATIENCE) == 130
        assert child.stderr.read() == ""
    assert os.listdir(tmp_path) == []


def test_a_command_behind_nohup_outlives_its_terminal(url, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which its children take over
    try:
        child = run_encode(subprocess.DEVNULL, "-o", str(tmp_path / "vectors.npy"))
    finally:
        signal.signal(signal.SIGHUP, before)
    with ending(child):
        child.stdin.write("First do it\n" * 10)
        child.stdin.flush()
        wait_for(lambda: unread(child.stdin) == 0)
        child.send_signal(signal.SIGHUP)
        child.stdin.close()
        child.stdin = None
        assert child.wait(PATIENCE) == 0
    assert np.load(tmp_path / "vectors.npy").shape == (10, 384)


def test_a_reader_that_leaves_is_141_without_a_traceback(url):
    with ending(run_encode(subprocess.PIPE)) as child:
        child.stdout.close()
        child.stdin.write("First do it\n" * 100)
        child.stdin.close()
        child.stdin = child.stdout = None  # so that nobody looks after them again
        assert child.wait(PATIENCE) == 141
        assert child.stderr.read() == ""


def ran(stdout, command):
    """The exit code and standard error, where Python writes what it prints when it ends, as it does by itself."""
    by_itself = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    program = [sys.executable, "-m", "client_sdk", command]
    outcome = subprocess.run(
        program, input="First do it\n", stdout=stdout, stderr=subprocess.PIPE, text=True, env=by_itself
    )
    return outcome.returncode, outcome.stderr


@pytest.mark.parametrize("command", ["encode", "info"])
def test_a_full_disk_behind_standard_output_is_1_without_a_traceback(url, command):
    with open("/dev/full", "w") as full:
        assert ran(full, command) == (1, "error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("command", ["encode", "info"])
def test_what_nobody_reads_is_141_though_it_is_written_at_the_end(url, command):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as left:
        assert ran(left, command) == (141, "")


def encoded(capsys, *arguments):
    """The objects that were written to standard output, and standard error."""
    assert main(["encode", *map(str, arguments)]) == 0
    shown = capsys.readouterr()
    return [json.loads(line) for line in shown.out.splitlines()], shown.err


WRONG_LINES = b"First do it\n \nthen \xff\nthen do it right\n"


def test_wrong_lines_are_skipped_and_named(vectors, tmp_path, capsys):
    (tmp_path / "texts.txt").write_bytes(WRONG_LINES)
    entries, errors = encoded(capsys, tmp_path / "texts.txt", "--on-error", "skip")
    assert [(entry["line"], entry["text"]) for entry in entries] == [(1, "First do it"), (4, "then do it right")]
    same([entry["vector"] for entry in entries], vectors)
    assert [line.split(" of ")[0] for line in errors.splitlines()] == ["skipped: line 2", "skipped: line 3"]


@pytest.mark.parametrize("name", ["out.npy", "out.jsonl"])
def test_a_report_of_skipped_lines_stands_beside_the_file(vectors, tmp_path, capsys, name):
    output, report = tmp_path / name, tmp_path / f"{name}.skipped.jsonl"
    (tmp_path / "texts.txt").write_bytes(WRONG_LINES)
    _, errors = encoded(capsys, tmp_path / "texts.txt", "-o", output, "--on-error", "skip")
    assert "2 lines were skipped, the first: line 2" in errors and str(report) in errors
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [line["line"] for line in lines] == [2, 3] and "is blank" in lines[0]["reason"]
    same(read(output), vectors)
    (tmp_path / "texts.txt").write_bytes(b"First do it\nthen do it right\n")
    encoded(capsys, tmp_path / "texts.txt", "-o", output, "--on-error", "skip")
    assert not report.exists()  # it would not be about these vectors


def read(output):
    if output.name.startswith("out.npy"):
        return np.load(output)
    return [json.loads(line)["vector"] for line in output.read_text().splitlines()]


def test_lines_that_the_server_refuses_are_skipped_and_cost_the_others_nothing(url, tmp_path, capsys):
    texts = [f"number {i}" + " and so on" * (i % 10 == 3) * 20 for i in range(300)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    options = ["--no-truncate", "--max-seq-len", "20", "--batch-size", "16", "--on-error", "skip"]
    entries, errors = encoded(capsys, tmp_path / "texts.txt", *options)
    kept = [i for i in range(300) if i % 10 != 3]
    assert [entry["line"] for entry in entries] == [i + 1 for i in kept]
    assert errors.count("skipped: line ") == 30 and "skipped: line 4 " in errors
    with Client(url) as client:
        same([entry["vector"] for entry in entries], client.encode([texts[i] for i in kept]))


def test_without_truncation_a_text_that_is_too_long_ends_the_job(url, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("First do it\n" + "then " * 30)
    assert main(["encode", str(tmp_path / "texts.txt"), "--no-truncate", "--max-seq-len", "20"]) == 2
    assert capsys.readouterr().err.startswith("error: line 2")


@pytest.fixture(scope="module")
def many(server):
    """More texts than are read ahead, and their vectors."""
    texts = [f"number {i}" for i in range(WINDOW_TEXTS + 200)]
    with Client(server.grpc_url) as client:
        return texts, client.encode(texts)


@pytest.mark.parametrize(("url", "name"), [("grpc", "out.npy"), ("http", "out.jsonl")], indirect=["url"])
def test_what_was_done_before_an_error_is_kept(url, many, tmp_path, capsys, monkeypatch, name):
    output, partial = tmp_path / name, tmp_path / f"{name}.partial"
    output.write_text("what was there before")
    texts, expected = many
    lines = "\n".join([*texts, "", "more"]).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))  # which cannot be looked through beforehand
    assert main(["encode", "-o", str(output)]) == 2
    note, error = capsys.readouterr().err.splitlines()
    assert note == f"note: the {len(texts):,} vectors that were done are in {partial}"
    assert error.startswith(f"error: line {len(texts) + 1} ") and output.read_text() == "what was there before"
    same(read(partial), expected)


def test_a_wrong_line_of_a_file_is_found_before_anything_is_sent(url, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("number\n" * 5000 + "\nmore\n")
    before = settled(lambda: served(url))  # Triton answers a request, then counts it
    assert main(["encode", str(tmp_path / "texts.txt"), "-o", str(tmp_path / "out.npy")]) == 2
    assert capsys.readouterr().err.startswith("error: line 5001 ") and os.listdir(tmp_path) == ["texts.txt"]
    assert settled(lambda: served(url)) == before


def served(url):
    with Client(url) as client:
        return client._session.ask(questions.served("bert"), Deadline(60)).texts


def test_pairs_have_a_tab_between(url, tmp_path, capsys):
    (tmp_path / "pairs.tsv").write_text("a question\tits answer\nno pair\none\ttwo\n\tthree\n")
    entries, errors = encoded(capsys, tmp_path / "pairs.tsv", "--pairs", "--on-error", "skip")
    assert [entry["text"] for entry in entries] == [["a question", "its answer"], ["one", "two"]]
    with Client(url) as client:
        same([entry["vector"] for entry in entries], client.encode([("a question", "its answer"), ("one", "two")]))
    assert "line 2 " in errors and "0 tabs" in errors and "line 4 " in errors and "blank text" in errors


def test_a_version_and_a_priority_can_be_chosen(vectors, url, file, capsys):
    entries, _ = encoded(capsys, file, "--model-version", "1", "--priority", "interactive")
    same([entry["vector"] for entry in entries], vectors)
    assert main(["encode", str(file), "--model-version", "7"]) == 1
    assert "there is no version 7" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["orjson", None])
def test_json_lines_are_the_same_with_and_without_orjson(vectors, url, file, capsys, module, monkeypatch):
    if module is None:
        monkeypatch.setitem(sys.modules, "orjson", None)
    entries, _ = encoded(capsys, file)
    assert [entry["text"] for entry in entries] == ["First do it", "then do it right"]
    same([entry["vector"] for entry in entries], vectors)


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "utf-16"},
        {"PYTHONIOENCODING": "ascii:strict"},
    ],
)
def test_input_and_output_are_utf8_whatever_the_locale(url, tmp_path, environment):
    text = "naïve café 東京 😀"
    (tmp_path / "texts.txt").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "client_sdk", "encode", str(tmp_path / "texts.txt"), "--prompt", "préfixe : "]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **environment})
    assert done.returncode == 0 and done.stderr == b""
    entry = json.loads(done.stdout.decode("utf-8"))
    assert entry["text"] == text
    with Client(url) as client:
        same(entry["vector"], client.encode(text, prompt="préfixe : "))
