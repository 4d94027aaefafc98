import re
import subprocess
import sys

import pytest

from client_sdk import __version__
from client_sdk._commands.main import main


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    monkeypatch.setenv("CLIENT_SDK_URL", "grpc://127.0.0.1:1")


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


def test_an_output_directory_must_be_there(capsys, tmp_path):
    code, line = failed(capsys, "encode", "no such file", "-o", str(tmp_path / "no" / "vectors.npy"))
    assert code == 2 and "there is no directory" in line


def test_a_file_that_is_not_there_is_named(capsys):
    assert failed(capsys, "encode", "texts.txt") == (1, "error: texts.txt: No such file or directory")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"one\n \ntwo\n", "line 2 of .* is blank"),
        (b"one\ntwo\n\xff\n", "line 3 of .* is not UTF-8"),
    ],
)
def test_wrong_input_is_named_by_its_line(capsys, tmp_path, content, message):
    (tmp_path / "texts.txt").write_bytes(content)
    code, line = failed(capsys, "encode", str(tmp_path / "texts.txt"))
    assert code == 2 and re.search(message, line)


@pytest.mark.parametrize(
    "arguments", [["encode", "--timeout", "0"], ["encode", "--url", "ftp://x"], ["encode", "--model", ""]]
)
def test_a_wrong_option_is_2(capsys, tmp_path, arguments):
    (tmp_path / "texts.txt").write_text("text\n")
    assert failed(capsys, *arguments, str(tmp_path / "texts.txt"))[0] == 2
