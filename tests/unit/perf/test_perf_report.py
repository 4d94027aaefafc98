import argparse
import csv
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from perf import __main__ as command_line
from perf.machine import describe
from perf.report import check_output, shown_path, table, write_csv, write_json
from tests.support.places import ROOT


def test_numbers_stand_right_and_text_left() -> None:
    printed = table(("name", "texts/s", "n"), [["a", 12345.6, 1], ["longer", 1.5, None]])
    assert printed.splitlines() == [
        "name    texts/s  n",
        "------  -------  -",
        "a        12,346  1",
        "longer     1.50",
    ]


def test_a_table_without_rows_is_its_head() -> None:
    assert table(("a", "b"), []).splitlines() == ["a  b", "-  -"]


def test_csv_has_every_field_of_every_row(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "new" / "rows.csv", [{"a": 1, "b": "x, y"}, {"a": 2, "c": 0.5}])
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"a": "1", "b": "x, y", "c": ""}, {"a": "2", "b": "", "c": "0.5"}]


def test_json_begins_with_the_machine(tmp_path: Path) -> None:
    machine = describe()
    found = json.loads(write_json(tmp_path / "results.json", machine, rates=[1, 2]).read_text())
    assert list(found) == ["machine", "rates"]
    assert found["machine"] == machine
    assert machine["cores"] >= 1
    assert {"cpu", "python", "command", "date", "commit"} <= machine.keys()


def test_results_that_cannot_be_written_are_told_before_the_measurement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        # Nothing listens there: it would be told else, after the texts.
        assert command_line.main(["recall", "--url", "localhost:1", "--output", str(folder)]) == 1
        assert capsys.readouterr().err.startswith(f"error: --output {folder}: nothing can be written there (")
    assert (tmp_path / "file").read_text() == "kept"


def test_paths_are_shown_from_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "a" / "b") == "a/b"
    assert shown_path(Path("/elsewhere/b")) == "/elsewhere/b"


def test_help_names_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command_line.main(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in command_line.COMMANDS)


@pytest.mark.parametrize("name", sorted(command_line.COMMANDS))
def test_help_of_a_command_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command_line.main([name, "--help"])
    assert end.value.code == 0
    assert f"python -m perf {name}" in capsys.readouterr().out


def test_without_a_command_each_is_listed_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main([]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name, summary in command_line.COMMANDS.items():
        assert f"{name} {summary}" in printed


def test_an_unknown_command_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as end:
        command_line.main(["speed"])
    assert end.value.code == 2


def test_the_folder_of_results_is_made_and_left_empty(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "results")
    assert [*(tmp_path / "new").rglob("*")] == [tmp_path / "new" / "results"]


@pytest.mark.parametrize("name", sorted(command_line.COMMANDS))
def test_results_go_where_git_ignores_them_unless_it_is_said(name: str) -> None:
    parser = argparse.ArgumentParser()
    import_module(f"perf.{name}.command").add_arguments(parser)
    assert parser.parse_args(["--output", "perf/results"]).output == Path("perf/results")
    file = parser.parse_args([]).output / "load-bert.png"
    assert subprocess.run(["git", "check-ignore", "--quiet", file], cwd=ROOT).returncode == 0


def test_onnxruntime_is_imported_where_it_may_not_call_out(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("import os; print(os.environ['ORT_DISABLE_TELEMETRY'])")
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    found = subprocess.run(
        [sys.executable, "-c", "import perf.ceiling.ceiling"],
        env=environment | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "1\n"


@pytest.mark.parametrize("name", ["ceiling", "profile", "scale"])
def test_what_is_missing_is_told_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--repository", str(tmp_path), "--output", str(tmp_path / "results")]
    assert command_line.main([name, *where]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "tokenizer.json is missing" in error
