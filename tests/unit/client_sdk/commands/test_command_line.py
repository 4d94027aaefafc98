import re
import subprocess
import sys

import pytest

from client_sdk import __version__
from client_sdk._commands.main import main


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    monkeypatch.setenv("CLIENT_SDK_URL", "grpc://127.0.0.1:1")


@pytest.fixture(params=[["encode"], ["rerank", "a query"], ["classify"]], ids=lambda command: command[0])
def command(request):
    """A command that reads lines."""
    return request.param


def failed(capsys, *arguments):
    """The exit code and the one line on standard error."""
    code = main(list(arguments))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return code, lines[0]


def test_help_shows_examples_and_exit_codes():
    shown = subprocess.run([sys.executable, "-m", "client_sdk", "--help"], capture_output=True, text=True, check=True)
    assert "examples:" in shown.stdout and "exit codes:" in shown.stdout and "CLIENT_SDK_URL" in shown.stdout


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


def test_a_server_that_is_not_there_is_3(capsys):
    code, line = failed(capsys, "info")
    assert code == 3 and "cannot reach grpc://127.0.0.1:1" in line


@pytest.mark.parametrize("output", ["vectors.txt", "vectors"])
def test_an_output_of_another_kind_is_refused_before_anything_is_read(capsys, output):
    code, line = failed(capsys, "encode", "no such file", "-o", output)
    assert code == 2 and "must end in .npy or .jsonl" in line


@pytest.mark.parametrize("command", [["rerank", "a query"], ["classify"]])
def test_scores_go_to_json_lines_alone(capsys, command):
    code, line = failed(capsys, *command, "no such file", "-o", "scores.npy")
    assert code == 2 and line == "error: output 'scores.npy': the name must end in .jsonl"


def test_an_output_directory_must_be_there(capsys, tmp_path, command):
    code, line = failed(capsys, *command, "no such file", "-o", str(tmp_path / "no" / "out.jsonl"))
    assert code == 2 and "there is no directory" in line


def test_an_output_that_is_a_directory_is_refused_before_anything_is_read(capsys, tmp_path, command):
    (tmp_path / "out.jsonl").mkdir()
    code, line = failed(capsys, *command, "no such file", "-o", str(tmp_path / "out.jsonl"))
    assert code == 2 and "out.jsonl' is a directory" in line


@pytest.mark.parametrize(
    ("closed", "message"),
    [
        ("<&-", "error: standard input is closed: give a file\n"),
        (">&-", "error: standard output is closed: give a file, as -o FILE\n"),
    ],
)
def test_a_closed_input_or_output_is_said_before_anything_is_read(closed, message, command):
    program = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "client_sdk", *command]
    ran = subprocess.run(program, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert (ran.returncode, ran.stderr) == (2, message)


def test_what_is_for_a_closed_standard_error_goes_nowhere_else(tmp_path, command):
    (tmp_path / "texts.txt").write_text("text\n")
    program = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "client_sdk", *command]
    ran = subprocess.run([*program, str(tmp_path / "texts.txt")], stdout=subprocess.PIPE, text=True)
    assert (ran.returncode, ran.stdout) == (3, "")


def test_a_file_that_is_not_there_is_named(capsys, command):
    assert failed(capsys, *command, "texts.txt") == (1, "error: texts.txt: No such file or directory")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"one\n \ntwo\n", "line 2 of .* is blank"),
        (b"one\ntwo\n\xff\n", "line 3 of .* is not UTF-8"),
    ],
)
def test_wrong_input_is_named_by_its_line(capsys, tmp_path, content, message, command):
    (tmp_path / "texts.txt").write_bytes(content)
    code, line = failed(capsys, *command, str(tmp_path / "texts.txt"))
    assert code == 2 and re.search(message, line)


@pytest.mark.parametrize("option", [["--timeout", "0"], ["--url", "ftp://x"], ["--model", ""], ["--max-seq-len", "0"]])
def test_a_wrong_option_is_2(capsys, tmp_path, command, option):
    (tmp_path / "texts.txt").write_text("text\n")
    assert failed(capsys, *command, str(tmp_path / "texts.txt"), *option)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rerank", " "], "query is blank: nothing answers it"),
        (["rerank", "a query", "--top-k", "0"], "top_k must be at least 1, not 0"),
        (["classify", "--top-k", "0"], "top_k must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_read(capsys, arguments, message):
    assert failed(capsys, *arguments) == (2, f"error: {message}")


@pytest.mark.parametrize("command", [["rerank", "a query"], ["classify"]])
def test_commands_for_scores_find_no_server_as_others_do(capsys, tmp_path, command):
    (tmp_path / "texts.txt").write_text("text\n")
    code, line = failed(capsys, *command, str(tmp_path / "texts.txt"))
    assert code == 3 and "cannot reach grpc://127.0.0.1:1" in line
