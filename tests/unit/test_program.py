"""`bert-on-triton`, and what the same commands are called in each of the programs that have them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from client_sdk._commands import program
from client_sdk._commands.main import main as client_main
from export.__main__ import main as export_main

COMMANDS = ("serve", "gateway", "encode", "rerank", "classify", "corpus", "info", "health", "export")


def shown(capsys, main, *arguments: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        main(list(arguments))
    return capsys.readouterr().out


def test_help_lists_every_command(capsys):
    listed = shown(capsys, program.main, "--help").split("positional arguments:")[1].split("options:")[0]
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("    ")] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_its_usage_and_examples_under_the_name_of_the_program(capsys, command):
    text = shown(capsys, program.main, command, "--help")
    assert text.startswith(f"usage: bert-on-triton {command} ")
    examples = text.split("\nexamples:\n")[1].split("\n\n")[0].splitlines()
    assert examples and all(line.startswith(f"  bert-on-triton {command}") for line in examples)
    assert "python -m" not in text


def test_the_modules_keep_names_of_their_own(capsys):
    client = shown(capsys, client_main, "--help")
    assert client.startswith("usage: python -m client_sdk ") and "bert-on-triton" not in client
    assert "    export " not in client
    for command in COMMANDS[:-1]:
        text = shown(capsys, client_main, command, "--help")
        assert text.startswith(f"usage: python -m client_sdk {command} ") and "bert-on-triton" not in text
    text = shown(capsys, export_main, "--help")
    assert text.startswith("usage: python -m export ") and "  python -m export ./my-bert" in text


def test_export_is_not_imported_before_it_is_asked_for():
    code = (
        "import sys\nfrom client_sdk._commands.program import main\n"
        "try: main(['info', '--help'])\nfinally: print('export' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "False"


def test_a_program_without_export_says_so(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "export.__main__", None)
    assert program.main(["export", "checkpoint"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {sys.executable} has no export.__main__: install the whole package bert-on-triton"


def test_the_status_of_an_export_is_that_of_the_program(capsys, tmp_path):
    assert program.main(["export", str(tmp_path / "nowhere"), "--repository", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
