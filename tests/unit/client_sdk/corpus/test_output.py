"""What a killed job leaves, and what the next one makes of it: without Ray, by the names of files alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from client_sdk import ClientError, InvalidArgument
from client_sdk.corpus.inputs import InputFile
from client_sdk.corpus.output import Output

FINGERPRINT: dict[str, Any] = {"identity": "abc", "pooling": "mean"}
FILES = [InputFile("/in/a.txt", 10, 1), InputFile("/in/b.txt", 20, 2)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def begun(folder: Path, files: list[InputFile] = FILES, **other: Any) -> Output:
    output = Output(str(folder))
    output.begin({**FINGERPRINT, **other}, files)
    return output


def leave(folder: Path, run: int, *names: str) -> None:
    for name in names:
        path = folder / ("checkpoint" if name.startswith("checkpoint") else "") / name.removeprefix("checkpoint/")
        if name.startswith("checkpoint/"):
            path = folder / "checkpoint" / str(run) / name.removeprefix("checkpoint/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x\n")


def found(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"corpus.json", ".lock"}


def test_what_is_whole_is_kept_and_what_is_not_removed(folder):
    begun(folder)
    leave(folder, 1, "checkpoint/whole.parquet", "vectors/whole.parquet", "errors/whole.jsonl")
    leave(folder, 1, "checkpoint/broken.pending.parquet", "vectors/.broken.parquet", "errors/broken.jsonl")
    leave(folder, 1, "vectors/orphan.parquet", "errors/.orphan.jsonl")
    begun(folder)
    assert found(folder) == {"checkpoint/2/whole.parquet", "vectors/whole.parquet", "errors/whole.jsonl"}


def test_a_file_that_was_being_written_once_more_does_not_count_though_it_had_been_whole(folder):
    begun(folder)
    leave(folder, 1, "checkpoint/again.parquet", "checkpoint/again.pending.parquet", "vectors/again.parquet")
    begun(folder)
    assert found(folder) == set()


def test_a_writer_of_an_earlier_run_finds_its_folder_gone(folder):
    earlier = begun(folder)
    begun(folder)
    assert not Path(earlier.checkpoint.path).exists()


def test_a_run_that_was_killed_while_it_took_over_is_taken_over_whole(folder):
    begun(folder)
    leave(folder, 1, "checkpoint/a.parquet", "vectors/a.parquet", "vectors/b.parquet")
    leave(folder, 2, "checkpoint/b.parquet")  # moved by a run that did not come to say that it is the second
    begun(folder)
    assert found(folder) == {
        "checkpoint/2/a.parquet",
        "checkpoint/2/b.parquet",
        "vectors/a.parquet",
        "vectors/b.parquet",
    }


def test_files_keep_their_numbers_and_new_ones_get_the_next(folder):
    begun(folder)
    new = InputFile("/in/0.txt", 5, 3)
    output = Output(str(folder))
    assert output.begin(FINGERPRINT, [new, *FILES]) == dict(enumerate([*FILES, new]))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([FILES[0]], "/in/b.txt was among the inputs"),
        ([FILES[0], InputFile("/in/b.txt", 21, 2)], "/in/b.txt has changed"),
        ([FILES[0], InputFile("/in/b.txt", 20, 3)], "/in/b.txt has changed"),
    ],
)
def test_input_that_is_another_than_it_was_is_refused(folder, files, message):
    begun(folder)
    with pytest.raises(InvalidArgument, match=message):
        begun(folder, files)


def test_vectors_of_another_model_or_other_options_are_refused(folder):
    begun(folder)
    with pytest.raises(InvalidArgument, match='was begun with identity="abc", and this is identity="other"'):
        begun(folder, identity="other")
    with pytest.raises(InvalidArgument, match="truncate_dim=null, and this is truncate_dim=16"):
        begun(folder, truncate_dim=16)


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(folder):
    leave(folder, 0, "letters/mine.txt")
    with pytest.raises(InvalidArgument, match="is not empty, and holds no corpus"):
        begun(folder)
    assert found(folder) == {"letters/mine.txt"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}'])
def test_a_file_of_something_else_by_the_name_of_the_jobs_own_is_refused(folder, content):
    folder.mkdir()
    (folder / "corpus.json").write_text(content)
    with pytest.raises(InvalidArgument, match="corpus.json is"):
        begun(folder)


def test_a_job_that_was_killed_before_it_said_what_it_is_is_begun_again(folder):
    leave(folder, 0, "corpus.json.new", ".lock")
    begun(folder)
    assert json.loads((folder / "corpus.json").read_text())["run"] == 1


def test_files_that_were_seen_stand_before_those_that_are_new(folder):
    begun(folder)
    new = InputFile("/in/0.txt", 5, 3)
    assert Output(str(folder)).ordered([new, *reversed(FILES)]) == [*FILES, new]


def test_two_jobs_at_once_are_refused(folder):
    with (
        Output(str(folder)).held(),
        pytest.raises(ClientError, match="another job writes to"),
        Output(str(folder)).held(),
    ):
        raise AssertionError


def test_the_end_is_written_with_what_came_of_it(folder):
    output = begun(folder)
    output.end({"rows": 3})
    state = json.loads((folder / "corpus.json").read_text())
    assert (state["finished"], state["summary"]) == (True, {"rows": 3})
    begun(folder)
    assert json.loads((folder / "corpus.json").read_text())["finished"] is False
